"""Calls of all four kinds until its input ends; then it says how many there were. Any failure ends it at once."""
import queue
import sys
import threading

import grpc

target, authority, name = sys.argv[1:4]
if authority == "-":
    channel = grpc.insecure_channel(target)
else:
    with open(authority, "rb") as roots:
        credentials = grpc.ssl_channel_credentials(roots.read())
    channel = grpc.secure_channel(target, credentials, (("grpc.ssl_target_name_override", name),))

unary = channel.unary_unary("/calls/Unary")
serve = channel.unary_stream("/calls/Serve")
take = channel.stream_unary("/calls/Take")
chat = channel.stream_stream("/calls/Chat")
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()


def code(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except grpc.RpcError as error:
        return error.code()
    raise AssertionError("it should have failed")


calls = 0
while not over.is_set():
    answer, call = unary.with_call(b"hello")
    assert answer == b"got hello", answer
    assert ("sum-bin", bytes([5])) in [tuple(one) for one in call.trailing_metadata()]
    assert code(unary, b"fail") == grpc.StatusCode.NOT_FOUND
    assert code(channel.unary_unary("/calls/None"), b"") == grpc.StatusCode.UNIMPLEMENTED
    assert [int(one) for one in serve(b"50")] == list(range(50))
    assert take(iter([b"x" * 10_000] * 20)) == b"200000"
    messages = queue.Queue()
    answers = chat(iter(messages.get, None))
    for number in range(10):
        messages.put(b"%d" % number)
        # Each comes back before the next is sent.
        assert next(answers) == b"echo %d" % number
    messages.put(None)
    assert list(answers) == []
    calls += 6
print(calls)
