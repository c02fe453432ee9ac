//! Clients that nobody here wrote, in front of a scripted worker: they get what they ask for by HTTP/2 and
//! by TLS.

use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Failed;

use super::support::instance::{Instance, Start};
use super::support::tls::{Authority, LISTEN, NAME};

/// One client.
pub(super) struct Client {
    pub(super) name: &'static str,
    /// Programs it needs, each with arguments that succeed where it is.
    pub(super) needs: &'static [&'static [&'static str]],
    pub(super) talk: fn(&Front) -> Result<(), Failed>,
}

/// An instance with a port of TLS and one without.
pub(super) struct Front {
    pub(super) instance: Instance,
    pub(super) plain: u16,
    pub(super) secure: u16,
}

pub(super) const CLIENTS: [Client; 5] = [
    Client {
        name: "curl_by_prior_knowledge",
        needs: &[&["curl", "--version"]],
        talk: |front| {
            let url = format!("http://{NAME}:{}/fast", front.plain);
            let said = front.curl(&["--http2-prior-knowledge", &url])?;
            expect(&said, "2 200")
        },
    },
    Client {
        name: "curl_by_tls_with_large_bodies",
        needs: &[&["curl", "--version"]],
        talk: |front| {
            let (dir, url) = (front.dir(), format!("https://{NAME}:{}/echo", front.secure));
            let body: Vec<u8> = (0..20_000_000_u32)
                .map(|n| u8::try_from(n % 251).unwrap_or(0))
                .collect();
            let (up, down) = (dir.join("up"), dir.join("down"));
            std::fs::write(&up, &body)?;
            let data = format!("@{}", up.display());
            for (protocol, wanted) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
                let said = front.curl(&[
                    protocol,
                    "--data-binary",
                    &data,
                    "--output",
                    &down.display().to_string(),
                    &url,
                ])?;
                expect(&said, wanted)?;
                if std::fs::read(&down)? != body {
                    return Err(format!("{protocol}: the body is another").into());
                }
            }
            Ok(())
        },
    },
    Client {
        name: "curl_without_tls_at_the_port_of_tls",
        needs: &[&["curl", "--version"]],
        talk: |front| {
            let url = format!("http://{NAME}:{}/fast", front.secure);
            let said = front.curl(&["--http1.1", &url])?;
            expect(&said, "this port speaks TLS")?;
            expect(&said, "1.1 400")
        },
    },
    Client {
        name: "h2load_without_and_with_tls",
        needs: &[&["h2load", "--version"]],
        talk: |front| {
            for url in [
                format!("http://127.0.0.1:{}/fast", front.plain),
                format!("https://127.0.0.1:{}/fast", front.secure),
            ] {
                let mut command = Command::new("h2load");
                command.args(["-n", "10000", "-c", "8", "-m", "16", "-t", "1", &url]);
                let said = text(&command.output()?);
                expect(&said, "10000 succeeded, 0 failed, 0 errored, 0 timeout")?;
                expect(&said, "status codes: 10000 2xx")?;
            }
            Ok(())
        },
    },
    Client {
        name: "nghttp_with_an_upload",
        needs: &[&["nghttp", "--version"]],
        talk: |front| {
            let url = format!("http://127.0.0.1:{}/echo", front.plain);
            let up = front.dir().join("small");
            std::fs::write(&up, "nobody here wrote nghttp")?;
            let mut command = Command::new("nghttp");
            command.arg("--data").arg(&up).arg(url);
            expect(&text(&command.output()?), "nobody here wrote nghttp")
        },
    },
];

impl Front {
    /// In front of the scripted worker.
    pub(super) fn start() -> Self {
        Self::begin(Start::default())
    }

    /// In front of what `start` says.
    pub(super) fn begin(start: Start) -> Self {
        let authority = Authority::new();
        let pair = authority.pair();
        let instance = start
            .top(LISTEN)
            .file("cert.pem", &pair.cert)
            .file("key.pem", &pair.key)
            .file("root.pem", authority.root_pem())
            .ready();
        let status = instance.status();
        let port = |n: usize| {
            let address = status["listeners"][n].as_str().expect("an address");
            let address: std::net::SocketAddr = address.parse().expect("an address");
            address.port()
        };
        Self {
            secure: port(0),
            plain: port(1),
            instance,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        self.instance.dir.path()
    }

    /// What it prints: the body, then version and status.
    fn curl(&self, arguments: &[&str]) -> Result<String, Failed> {
        let resolve = |port| format!("{NAME}:{port}:127.0.0.1");
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "60"])
            .args([
                "--noproxy",
                "*",
                "--write-out",
                "\n%{http_version} %{http_code}\n",
            ])
            .args(["--resolve", &resolve(self.plain)])
            .args(["--resolve", &resolve(self.secure)])
            .arg("--cacert")
            .arg(self.dir().join("root.pem"))
            .args(arguments)
            .output()?;
        match output.status.success() {
            true => Ok(text(&output)),
            false => Err(text(&output).into()),
        }
    }
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

fn expect(said: &str, what: &str) -> Result<(), Failed> {
    match said.contains(what) {
        true => Ok(()),
        false => Err(format!("no {what:?} in:\n{said}").into()),
    }
}
