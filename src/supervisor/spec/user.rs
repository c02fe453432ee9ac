//! The user and the groups that workers run as, looked up once for each generation. Nothing is taken on here; the
//! shim does that.

use nix::unistd::{Group, User, getgrouplist};

use crate::shim::Identity;

/// The user and group to become. A named user brings its groups; a group alone keeps our user.
pub(super) fn identity(
    user: Option<&str>,
    group: Option<&str>,
) -> Result<Option<Identity>, String> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let gid = group.map(find_group).transpose()?;
    let Some(name) = user else {
        let gid = gid.unwrap_or_else(nix::unistd::getgid);
        let uid = nix::unistd::geteuid().as_raw();
        let groups = vec![gid.as_raw()];
        return Ok(Some(Identity {
            uid,
            gid: gid.as_raw(),
            groups,
        }));
    };
    let found = match name.parse::<u32>() {
        Ok(number) => User::from_uid(number.into()),
        Err(_a_name) => User::from_name(name),
    };
    let found = found.map_err(|errno| format!("cannot look up the user `{name}`: {errno}"))?;
    let identity = match (found, name.parse::<u32>()) {
        (Some(user), _) => {
            let gid = gid.unwrap_or(user.gid);
            let groups = std::ffi::CString::new(user.name)
                .ok()
                .and_then(|name| getgrouplist(&name, gid).ok())
                .unwrap_or_else(|| vec![gid]);
            Identity {
                uid: user.uid.as_raw(),
                gid: gid.as_raw(),
                groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
            }
        }
        // A number that no user has is fine if the group is said as well.
        (None, Ok(uid)) => {
            let Some(gid) = gid else {
                return Err(format!(
                    "no user has the number {uid}; name a `group` as well"
                ));
            };
            Identity {
                uid,
                gid: gid.as_raw(),
                groups: vec![gid.as_raw()],
            }
        }
        (None, Err(_)) => return Err(format!("there is no user `{name}`")),
    };
    Ok(Some(identity))
}

fn find_group(name: &str) -> Result<nix::unistd::Gid, String> {
    if let Ok(number) = name.parse::<u32>() {
        return Ok(number.into());
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(format!("there is no group `{name}`")),
        Err(errno) => Err(format!("cannot look up the group `{name}`: {errno}")),
    }
}
