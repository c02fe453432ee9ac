//! The smallest round robin on pingora that compare.py can measure:
//! `pingora-rr PORT THREADS UPSTREAM,UPSTREAM [CERT KEY]`; with a certificate, TLS is at PORT + 1.

use async_trait::async_trait;
use pingora::lb::{selection::RoundRobin, LoadBalancer};
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use std::sync::Arc;

#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Lb(Arc<LoadBalancer<RoundRobin>>);

#[async_trait]
impl ProxyHttp for Lb {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let up = self.0.select(b"", 16).unwrap();
        Ok(Box::new(HttpPeer::new(up, false, String::new())))
    }
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let port: u16 = a[1].parse().unwrap();
    let ups: Vec<&str> = a[3].split(',').collect();
    let conf = ServerConf {
        threads: a[2].parse().unwrap(),
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let lb = Arc::new(LoadBalancer::<RoundRobin>::try_from_iter(ups).unwrap());
    let mut service = pingora::proxy::http_proxy_service(&server.configuration, Lb(lb));
    service.add_tcp(&format!("127.0.0.1:{port}"));
    if a.len() > 5 {
        let tls = format!("127.0.0.1:{}", port + 1);
        service.add_tls(&tls, &a[4], &a[5]).unwrap();
    }
    server.add_service(service);
    server.run_forever();
}
