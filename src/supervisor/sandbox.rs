//! What is said of the planes' sandbox (T16): once in the log when it is known, and in the status where a part is
//! missing. A plane goes without what its kernel does not know; the operator is to know that.

use serde_json::json;
use tracing::Level;

use super::control::Supervisor;
use crate::link::message::{Confinement, InForce};

impl Supervisor {
    /// A plane has begun, and says what it gave up before. The next one says the same, as a rule.
    pub(super) fn tell_confinement(&mut self, confinement: Option<Confinement>) {
        if self.told.confinement == Some(confinement) {
            return;
        }
        self.told.confinement = Some(confinement);
        let (level, text) = sentence(confinement);
        self.notices.sandbox = (level == Level::WARN).then(|| text.clone());
        let now = self.clock.now();
        self.journal
            .note(now, level, "plane_sandbox", &text, json!({}));
    }
}

fn sentence(confinement: Option<Confinement>) -> (Level, String) {
    let Some(confinement) = confinement else {
        let text = "the data plane runs without its sandbox, as the config has it";
        return (Level::INFO, text.to_owned());
    };
    let Confinement {
        privileges,
        landlock,
        seccomp,
    } = confinement;
    let parts = [
        (privileges, "no privileges"),
        (landlock, "Landlock"),
        (seccomp, "seccomp"),
    ];
    let named = |wanted| {
        let names = parts.iter().filter(|(force, _)| *force == wanted);
        let names: Vec<_> = names.map(|(_, name)| *name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let (whole, part, not) = (
        named(InForce::Whole),
        named(InForce::Part),
        named(InForce::Not),
    );
    let whole = whole.unwrap_or_else(|| "nothing".to_owned());
    let part = part.map_or_else(String::new, |names| {
        format!("; {names} as far as this kernel has it")
    });
    match not {
        None => (
            Level::INFO,
            format!("the data plane's sandbox: {whole}{part}"),
        ),
        Some(names) => (
            Level::WARN,
            format!(
                "the data plane's sandbox is not complete: {whole}{part}; {names} cannot be had here, and \
                 `sandbox = false` stops asking for it"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t16_what_is_missing_is_a_warning_and_what_an_old_kernel_lacks_is_said() {
        let all = Confinement {
            privileges: InForce::Whole,
            landlock: InForce::Whole,
            seccomp: InForce::Whole,
        };
        let (level, text) = sentence(Some(all));
        assert_eq!(level, Level::INFO);
        assert_eq!(
            text,
            "the data plane's sandbox: no privileges, Landlock, seccomp"
        );
        let older = Confinement {
            landlock: InForce::Part,
            ..all
        };
        let (level, text) = sentence(Some(older));
        assert_eq!(level, Level::INFO);
        assert!(
            text.ends_with("seccomp; Landlock as far as this kernel has it"),
            "{text}"
        );
        let oldest = Confinement {
            landlock: InForce::Not,
            ..all
        };
        let (level, text) = sentence(Some(oldest));
        assert_eq!(level, Level::WARN);
        assert!(text.contains("Landlock cannot be had here"), "{text}");
        assert_eq!(sentence(None).0, Level::INFO);
    }
}
