"""Calls of all four kinds, without generated code: messages are bytes. Finishes what is in hand at SIGTERM."""
import signal
import sys
from concurrent import futures

import grpc


def unary(request, context):
    if request == b"fail":
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")
    context.set_trailing_metadata((("sum-bin", bytes([len(request) % 256])),))
    return b"got " + request


def serve_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def take_stream(requests, context):
    return b"%d" % sum(len(one) for one in requests)


def chat(requests, context):
    for one in requests:
        yield b"echo " + one


class Calls(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/calls/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/calls/Serve": grpc.unary_stream_rpc_method_handler(serve_stream),
            "/calls/Take": grpc.stream_unary_rpc_method_handler(take_stream),
            "/calls/Chat": grpc.stream_stream_rpc_method_handler(chat),
        }.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((Calls(),))
server.add_insecure_port(sys.argv[1])
server.start()
signal.signal(signal.SIGTERM, lambda *_: server.stop(5))
server.wait_for_termination()
