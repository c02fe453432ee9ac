//! What the process tests share: an instance of the real binary, a scripted worker, small clients.

pub(crate) mod checker;
pub(crate) mod cli;
pub(crate) mod h2;
pub(crate) mod h2c;
pub(crate) mod http;
pub(crate) mod instance;
pub(crate) mod knobs;
pub(crate) mod load;
pub(crate) mod tls;
pub(crate) mod watch;
pub(crate) mod worker;
