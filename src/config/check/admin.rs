//! The admin side, and that its doors and the metrics' are others than the clients'.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use super::listeners::clash;
use super::{Check, Value, writable_by_others};
use crate::admin::Token;
use crate::config::paths::{self, Env};
use crate::config::{Admin, Listen};
use crate::link::message::PublicListener;

/// Longest path of a unix socket on Linux, without its ending NUL.
const MAX_SOCKET_PATH: usize = 107;

impl Check<'_> {
    /// The admin side.
    pub(super) fn admin(&mut self, env: &Env) -> Admin {
        let named = self.path("admin.socket");
        let runtime_dir = self
            .path("runtime_dir")
            .unwrap_or_else(|| paths::runtime_dir(env, named.as_deref()));
        let socket = named.unwrap_or_else(|| runtime_dir.join("admin.sock"));
        self.socket_length(&socket, self.values.span("admin.socket"));
        // The deepest thing that is made there: a worker's notify socket.
        let names = self.values.services.keys();
        let longest = names
            .max_by_key(|name| name.len())
            .filter(|_| self.values.services.len() > 1);
        let workers = runtime_dir.join("w").join(longest.map_or("", |name| name));
        let deepest = workers.join("9999-999999/notify");
        self.socket_length(&deepest, self.values.span("runtime_dir"));
        let token_file = self.path("admin.token_file");
        if let Some(file) = &token_file {
            let span = self.values.span("admin.token_file");
            let before = self.problems.errors();
            writable_by_others(file, span.clone(), self.problems);
            // One that is not there, or not ours to read, is looked for by a start alone.
            if let Err(error) = Token::of_file(file)
                && error.kind() == io::ErrorKind::InvalidData
                && self.problems.errors() == before
            {
                self.problems.error("token", span, error.to_string(), None);
            }
        }
        let address = match self.get("admin.address") {
            Some(Value::Address(address)) => Some(address),
            _ => None,
        };
        Admin {
            address,
            address_named: self.values.found.contains_key("admin.address"),
            socket,
            runtime_dir,
            token_file,
        }
    }

    /// The address of the metrics for others.
    pub(super) fn metrics(&self) -> Option<SocketAddr> {
        match self.maybe("metrics.address") {
            Some(Value::Address(address)) => Some(*address),
            _ => None,
        }
    }

    /// The doors of the admin side are others than the clients'.
    pub(super) fn addresses(&mut self, listen: &[Listen], admin: &Admin) {
        let public = |address: SocketAddr| {
            listen.iter().any(|one| match one.address {
                PublicListener::Tcp(of) => clash(of, address),
                PublicListener::Unix(_) => false,
            })
        };
        let unix = |path: &Path| {
            let mut sockets = listen.iter();
            sockets.any(|one| matches!(&one.address, PublicListener::Unix(of) if of == path))
        };
        if let Some(address) = admin.address.filter(|address| public(*address)) {
            let message = format!("the admin address {address} is a public listener's, too");
            let help = "give one of them another port".to_owned();
            let span = self.values.span("admin.address");
            if admin.address_named {
                self.problems.error("duplicate", span, message, Some(help));
            } else {
                // The default one is done without.
                let help = "name another one: `[admin] address = \"127.0.0.1:9901\"`, or \"off\"";
                self.problems
                    .warning("duplicate", span, message, Some(help.to_owned()));
            }
        }
        if unix(&admin.socket) {
            let message = format!(
                "the admin socket {} is a public listener's, too",
                admin.socket.display()
            );
            let span = self.values.span("admin.socket");
            self.problems.error("duplicate", span, message, None);
        }
        if let Some(address) = self.metrics() {
            let admins = admin.address.is_some_and(|of| clash(of, address));
            let whose = match public(address) {
                true => "a public listener's",
                false if admins => "the admin side's",
                false => return,
            };
            let message = format!("the metrics address {address} is {whose}, too");
            let help = "give one of them another port".to_owned();
            let span = self.values.span("metrics.address");
            self.problems.error("duplicate", span, message, Some(help));
        }
    }

    /// Refuses a path that no unix socket can have.
    pub(super) fn socket_length(&mut self, path: &Path, span: Option<Range<usize>>) {
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let message = format!(
                "`{}` is too long for a unix socket: {length} bytes, at most {MAX_SOCKET_PATH}",
                path.display()
            );
            let help = "name a shorter `runtime_dir` (`--runtime-dir`) or `admin.socket` (`--admin-socket`)";
            self.problems
                .error("path-too-long", span, message, Some(help.to_owned()));
        }
    }
}
