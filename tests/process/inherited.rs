//! Public sockets that a service manager opened for an instance, or kept for its next life (F32).

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::manager;
use super::support::http::Client;
use super::support::instance::{Instance, Start};

fn any_port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn ready(instance: &mut Instance) {
    instance.wait("all workers to be ready, and the plane", |status| {
        let app = &status["services"]["app"];
        app["ready"] == app["wanted"] && status["data_planes"][0]["state"] == "accepting"
    });
}

fn get(path: &Path) -> u16 {
    let answer = Client::unix(path).and_then(|mut client| client.get("/"));
    answer.expect("served").status
}

#[test]
fn f32_sockets_that_a_manager_opened_are_served_stay_its_own_and_others_are_said_and_closed() {
    let (tcp, address) = any_port();
    let (strange, nobodys) = any_port();
    let start = Start::default();
    let place = start.place().to_owned();
    let (path, own) = (place.join("theirs"), place.join("ours"));
    let unix = UnixListener::bind(&path).expect("binds");
    let inode = std::fs::metadata(&path).expect("there").ino();
    let listen = [&path, &own].map(|path| format!("unix:{}", path.display()));
    // It is in the queue before anybody serves.
    let mut early = Client::tcp(address).expect("the manager listens");
    early.send("GET", "/", &[], b"").expect("taken");
    let mut instance = start
        .flags(&["--listen", &address.to_string()])
        .flags(&["--listen", &listen[0], "--listen", &listen[1]])
        .given(strange, "strange.socket")
        .given(unix, "web-unix.socket")
        .given(tcp, "web.socket")
        .launch();
    ready(&mut instance);
    assert_eq!(early.answer(false).expect("served").status, 200);
    assert_eq!(instance.get("/").status, 200);
    assert_eq!([get(&path), get(&own)], [200, 200]);
    let said = format!("a socket at {nobodys} was opened for us (LISTEN_FDS, `strange.socket`)");
    instance.wait_said(&said);
    let status = instance.status();
    assert_eq!(status["listeners"][0], address.to_string());

    // A plane that comes later has them, too.
    let plane = status["data_planes"][0]["pid"].as_i64().expect("a pid");
    let plane = Pid::from_raw(i32::try_from(plane).expect("a pid"));
    kill(plane, Signal::SIGKILL).expect("it lives");
    assert_eq!(instance.get("/").status, 200);
    assert_eq!([get(&path), get(&own)], [200, 200]);

    // Whose path is gone is made again if it is ours, and left to the manager if it is the manager's.
    assert_eq!(std::fs::metadata(&path).expect("there").ino(), inode);
    std::fs::rename(&path, place.join("aside")).expect("renamed");
    std::fs::remove_file(&own).expect("removed");
    instance.wait_metric("remuda_runtime_restored_total", &["what=\"socket\""], 1.0);
    assert!(own.exists() && !path.exists());
    std::fs::rename(place.join("aside"), &path).expect("renamed");
    assert_eq!(get(&path), 200);

    // The test holds copies of all three, as the manager does; of this one nobody else does.
    instance.given.remove(0);
    Client::tcp(nobodys).map(drop).expect_err("it was closed");
    instance.signal(Signal::SIGTERM);
    assert_eq!(instance.ended().code(), Some(0));
    assert!(path.exists() && !own.exists());
    Client::tcp(address).expect("the manager still listens");
}

/// A service manager that keeps what it is told to.
struct Store {
    socket: UnixDatagram,
    kept: Vec<OwnedFd>,
}

impl Store {
    fn at(name: &Path) -> Self {
        Self {
            socket: manager::listen(name),
            kept: Vec::new(),
        }
    }

    /// Reads on until a message begins so.
    fn until(&mut self, first: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut text = [0; 4096];
            let received = remuda::sys::recv_with_fds(self.socket.as_fd(), &mut text);
            if let Ok((length, fds)) = received {
                let text = String::from_utf8_lossy(&text[..length]);
                match text.as_ref() {
                    "FDSTORE=1\nFDNAME=remuda-listener\nFDPOLL=0" => {
                        assert_eq!(fds.len(), 1);
                        self.kept.extend(fds);
                    }
                    "FDSTOREREMOVE=1\nFDNAME=remuda-listener" => self.kept.clear(),
                    other => assert!(fds.is_empty() && !other.contains("FD"), "{other}"),
                }
                if text.starts_with(first) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "never {first}");
        }
    }
}

#[test]
fn f32_listeners_are_kept_for_the_next_life_and_given_up_by_a_stop() {
    let start = Start::default();
    let name = start.place().join("manager");
    let mut store = Store::at(&name);
    let mut instance = start
        .env("NOTIFY_SOCKET", &name)
        .env("FDSTORE", "8")
        .launch();
    store.until("READY=1");
    assert_eq!(store.kept.len(), 1);
    let address = instance.address;

    // All of it dies, as systemd ends what is left when the main process is killed.
    for (pid, _) in instance.processes() {
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
        // One may be gone with its parent.
        let _ = kill(pid, Signal::SIGKILL);
    }
    instance.ended();
    let mut waiting: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::tcp(address).expect("never refused");
            client.send("GET", "/", &[], b"").expect("taken");
            client
        })
        .collect();
    let kept = store.kept[0].try_clone().expect("a copy");
    instance.given.push((kept, "remuda-listener".to_owned()));
    instance.start_again();
    assert_eq!(instance.address, address, "the port of before");
    for client in &mut waiting {
        assert_eq!(client.answer(false).expect("served").status, 200);
    }
    store.until("READY=1");
    assert!(!store.kept.is_empty());

    instance.signal(Signal::SIGTERM);
    store.until("FDSTOREREMOVE=1");
    assert!(store.kept.is_empty());
    instance.given.clear();
    assert_eq!(instance.ended().code(), Some(0));
    Client::tcp(address)
        .map(drop)
        .expect_err("nobody holds it any more");
}
