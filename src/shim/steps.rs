//! The steps from a fresh process to a worker, in the one order that works.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Gid, Uid};

use super::answer;
use super::execute::{Begun, execute};
use super::job::{Answer, Failure, Identity, Job};
use crate::sys;

/// Becomes the worker. If it returns, nothing was executed, and the failure is to be sent on the channel.
pub(super) fn become_worker(job: &Job, channel: OwnedFd, fds: Vec<OwnedFd>) -> (OwnedFd, Failure) {
    let (prepared, begun) = match descriptors(job, fds) {
        Ok(fds) => fds,
        Err(failure) => return (channel, failure),
    };
    let channel = match sys::number_descriptors(prepared, channel) {
        Ok(channel) => channel,
        Err((channel, error)) => {
            return (channel, failed("set up the worker's descriptors", &error));
        }
    };
    match prepare(job) {
        Ok(()) => {
            let told = |bytes| answer(channel.as_fd(), &Answer::Executes(bytes));
            let failure = execute(job, begun.as_ref(), environment(job), told);
            (channel, failure)
        }
        Err(failure) => (channel, failure),
    }
}

/// Stdin, stdout, stderr and the listeners, in order; and the program, above them and closed by the exec.
fn descriptors<'a>(
    job: &'a Job,
    mut fds: Vec<OwnedFd>,
) -> Result<(Vec<OwnedFd>, Option<Begun<'a>>), Failure> {
    let count = 2 + job.listeners.len();
    if fds.len() != count + usize::from(job.begun.is_some()) {
        return Err(Failure(format!(
            "the supervisor sent {} descriptors for {} listeners",
            fds.len(),
            job.listeners.len()
        )));
    }
    let mut begun = None;
    if let Some((program, file)) = job.begun.as_ref().zip(fds.get(count)) {
        // The number it came with may be one that the worker gets another descriptor under.
        let file = sys::copy_above(file, count + 1)
            .map_err(|error| failed("keep the program's descriptor", &error))?;
        begun = Some(Begun { program, file });
    }
    fds.truncate(count);
    let null = File::open("/dev/null").map_err(|error| failed("open /dev/null", &error))?;
    let mut all = vec![null.into()];
    all.extend(fds);
    Ok((all, begun))
}

fn prepare(job: &Job) -> Result<(), Failure> {
    let first_foreign = u32::try_from(3 + job.listeners.len())
        .map_err(|_too_many| Failure("too many listeners".into()))?;
    sys::close_on_exec_from(first_foreign)
        .map_err(|error| failed("close foreign descriptors", &error))?;
    sys::begin_session().map_err(|error| failed("begin a session", &error))?;
    sys::reset_signals().map_err(|error| failed("reset signals", &error))?;
    not_spared_by_the_oom_killer();
    if let Some(mask) = job.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    if let Some((soft, hard)) = job.open_files {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)
            .map_err(|errno| failed("set the limit of open files", &errno.into()))?;
    }
    if let Some(identity) = &job.identity {
        switch_user(identity)?;
    }
    // After the change of user, which forgets it.
    sys::die_with_parent(job.parent).map_err(|error| failed("bind to the supervisor", &error))?;
    if let Some(cwd) = &job.cwd {
        let path = Path::new(cwd);
        unistd::chdir(path).map_err(|errno| {
            let what = format!("change to the directory {path:?}");
            failed(&what, &errno.into())
        })?;
    }
    Ok(())
}

/// The supervisor may protect itself from the kernel's out-of-memory killer; a worker must not inherit it.
fn not_spared_by_the_oom_killer() {
    let file = OpenOptions::new()
        .write(true)
        .open("/proc/self/oom_score_adj");
    if let Ok(mut file) = file {
        // Raising is always allowed; if it fails there is no such file system, and nothing to undo.
        let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        if own.trim_start().starts_with('-') {
            let _ = io::Write::write_all(&mut file, b"0");
        }
    }
}

/// Groups, group, user, in this order, each checked, and none of the capabilities that would lead back (T15).
fn switch_user(identity: &Identity) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let as_is = unistd::geteuid() == uid && unistd::getegid() == gid;
    if as_is && !uid.is_root() {
        return Ok(());
    }
    let what = format!("become user {uid} with group {gid}");
    let wrong = |errno: nix::Error| failed(&what, &errno.into());
    if !uid.is_root() {
        // As long as we may.
        sys::bound_capabilities(0);
    }
    unistd::setgroups(&groups).map_err(wrong)?;
    unistd::setresgid(gid, gid, gid).map_err(wrong)?;
    unistd::setresuid(uid, uid, uid).map_err(wrong)?;
    if !uid.is_root() {
        // The kernel takes root's from who is root no more, and from nobody those that he was given otherwise.
        sys::keep_capabilities(0).map_err(|error| failed(&what, &error))?;
    }

    let user = unistd::getresuid().map_err(wrong)?;
    let group = unistd::getresgid().map_err(wrong)?;
    let switched = [user.real, user.effective, user.saved] == [uid; 3]
        && [group.real, group.effective, group.saved] == [gid; 3];
    let can_go_back = !uid.is_root() && unistd::setuid(Uid::from_raw(0)).is_ok();
    if !switched || can_go_back {
        return Err(Failure(format!("cannot {what}: the change did not hold")));
    }
    nix::sys::prctl::set_no_new_privs().map_err(wrong)
}

/// The worker's environment: what the job says, and the socket activation variables, which only we can
/// know: `LISTEN_PID` must be the worker's own pid or servers silently ignore the descriptors.
fn environment(job: &Job) -> Vec<(OsString, OsString)> {
    let mut env = job.env.clone();
    if !job.listeners.is_empty() {
        let values = [
            ("LISTEN_FDS", job.listeners.len().to_string()),
            ("LISTEN_PID", std::process::id().to_string()),
            ("LISTEN_FDNAMES", job.listeners.join(":")),
        ];
        env.extend(values.map(|(name, value)| (name.into(), value.into())));
    }
    env
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure(format!("cannot {what}: {error}"))
}
