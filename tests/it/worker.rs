//! A worker in a thread: it reads requests and does with each what the test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::plane::{PATIENCE, find};

/// A request as the worker got it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Which one it is on its connection, from 1.
    pub(crate) number: usize,
}

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A scripted worker. Its threads end with the test program.
pub(crate) struct Worker {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

/// Whether the connection goes on.
pub(crate) type Script = dyn Fn(&Request, &mut TcpStream) -> bool + Send + Sync;

impl Worker {
    /// Answers every request with its own name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::scripted(move |_, stream| reply(stream, name))
    }

    /// Reads each request whole and hands it to the script.
    pub(crate) fn scripted(
        script: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::make(Arc::new(script), true)
    }

    /// Answers every request with this, once the door is open.
    pub(crate) fn waiting(body: &'static str) -> (Self, Door) {
        let door = Door::new();
        let inside = door.clone();
        let worker = Self::scripted(move |_, stream| {
            inside.wait();
            reply(stream, body)
        });
        (worker, door)
    }

    /// Begins a stream of events with one, `a`, and sends nothing more; it breaks off when the door is open.
    pub(crate) fn silent_after_an_event() -> (Self, Door) {
        let door = Door::new();
        let inside = door.clone();
        let worker = Self::scripted(move |_, stream| {
            write(stream, ONE_EVENT);
            inside.wait();
            false
        });
        (worker, door)
    }

    /// Hands each request to the script when its head is complete.
    pub(crate) fn early(
        script: impl Fn(&Request, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::make(Arc::new(script), false)
    }

    /// The same as [`Worker::named`], on a listener that is there already.
    pub(crate) fn named_on(name: &'static str, listener: TcpListener) -> Self {
        Self::on(
            listener,
            Arc::new(move |_: &Request, stream: &mut TcpStream| reply(stream, name)),
            true,
        )
    }

    fn make(script: Arc<Script>, bodies: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        Self::on(listener, script, bodies)
    }

    fn on(listener: TcpListener, script: Arc<Script>, bodies: bool) -> Self {
        let address = listener.local_addr().expect("address");
        let seen = Arc::<Mutex<Vec<Request>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let (all, count) = (Arc::clone(&seen), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                count.fetch_add(1, Ordering::SeqCst);
                let (script, all) = (Arc::clone(&script), Arc::clone(&all));
                std::thread::spawn(move || serve(stream, &*script, &all, bodies));
            }
        });
        Self {
            address,
            seen,
            connections,
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("no panic").clone()
    }
}

/// The head of a stream of events, and the first one of them.
pub(crate) const ONE_EVENT: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\n\n\r\n";

/// A whole answer with a length.
pub(crate) fn reply(stream: &mut TcpStream, body: &str) -> bool {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    write(stream, &(head + body))
}

pub(crate) fn write(stream: &mut TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).is_ok()
}

/// A door that the test opens: what waits at it goes on, now or later.
#[derive(Clone)]
pub(crate) struct Door {
    opener: Arc<Mutex<Option<mpsc::Sender<()>>>>,
    wait: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Door {
    pub(crate) fn new() -> Self {
        let (opener, wait) = mpsc::channel();
        Self {
            opener: Arc::new(Mutex::new(Some(opener))),
            wait: Arc::new(Mutex::new(wait)),
        }
    }

    pub(crate) fn open(&self) {
        drop(self.opener.lock().expect("no panic").take());
    }

    pub(crate) fn wait(&self) {
        let _ = self.wait.lock().expect("no panic").recv_timeout(PATIENCE);
    }
}

fn serve(mut stream: TcpStream, script: &Script, seen: &Mutex<Vec<Request>>, bodies: bool) {
    let mut buffer = Vec::new();
    for number in 1.. {
        let Some(mut request) = read_request(&mut stream, &mut buffer, bodies) else {
            return;
        };
        request.number = number;
        seen.lock().expect("no panic").push(request.clone());
        if !script(&request, &mut stream) {
            return;
        }
    }
}

fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>, bodies: bool) -> Option<Request> {
    let end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if bodies {
            more(stream, buffer)?;
        } else {
            // The script reads the body, so none of it may be read here.
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            buffer.extend_from_slice(&byte);
        }
    };
    let head: Vec<u8> = buffer.drain(..end).collect();
    let mut request = Request {
        head: String::from_utf8_lossy(&head).into_owned(),
        body: Vec::new(),
        number: 0,
    };
    if !bodies {
        return Some(request);
    }
    if let Some(length) = request.field("content-length") {
        let length: usize = length.parse().ok()?;
        while buffer.len() < length {
            more(stream, buffer)?;
        }
        request.body = buffer.drain(..length).collect();
    } else if request.field("transfer-encoding").is_some() {
        loop {
            let at = loop {
                if let Some(at) = find(buffer, b"\r\n") {
                    break at;
                }
                more(stream, buffer)?;
            };
            let line: Vec<u8> = buffer.drain(..at + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line[..at]).ok()?, 16).ok()?;
            while buffer.len() < size + 2 {
                more(stream, buffer)?;
            }
            let data: Vec<u8> = buffer.drain(..size + 2).collect();
            request.body.extend_from_slice(&data[..size]);
            if size == 0 {
                break;
            }
        }
    }
    Some(request)
}

fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut part = [0; 16 << 10];
    match stream.read(&mut part) {
        Ok(0) | Err(_) => None,
        Ok(read) => {
            buffer.extend_from_slice(&part[..read]);
            Some(())
        }
    }
}
