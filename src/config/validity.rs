//! Whether a certificate is in its time. One that is not may be shown all the same: a host's clock can be wrong,
//! and a proxy that does not start serves nobody. It is said, and who watches can mend it before clients refuse.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

/// So long before its end it is said that a certificate ought to be renewed. Those of 90 days are, by what renews
/// them, when 30 are left.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What is to be said of a certificate's time at this moment, as the end of a sentence; `None` if it is good for a
/// while. What is no certificate is somebody else's to say.
pub(crate) fn fault(leaf: &[u8], now: SystemTime) -> Option<String> {
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    match checked(leaf, now)? {
        Error::CertExpired { not_after, .. } => {
            return Some(format!(
                "it expired on {}, and clients refuse it",
                date(not_after)
            ));
        }
        Error::CertNotValidYet { not_before, .. } => {
            let when = date(not_before);
            return Some(format!(
                "it is not valid before {when}, and clients refuse it"
            ));
        }
        _ => {}
    }
    match checked(leaf, now + SOON)? {
        Error::CertExpired { not_after, .. } => {
            let left = Duration::from_secs(not_after.as_secs()).saturating_sub(now);
            let days = left.as_secs() / (24 * 60 * 60);
            let when = date(not_after);
            Some(match days {
                0 => format!("it expires on {when}, within a day"),
                1 => format!("it expires on {when}, in 1 day"),
                days => format!("it expires on {when}, in {days} days"),
            })
        }
        _ => None,
    }
}

/// Why a certificate would not be trusted at this time, by those who trust nobody. Its time is looked at first.
fn checked(leaf: &[u8], at: Duration) -> Option<Error> {
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).ok()?;
    let at = UnixTime::since_unix_epoch(at);
    let usage = KeyUsage::server_auth();
    leaf.verify_for_usage(&[], &[], &[], at, usage, None, None)
        .err()
}

fn date(time: UnixTime) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, IsCa, KeyPair, date_time_ymd};

    use super::*;

    /// 2026-01-01, so many days later.
    fn day(days: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs((20_454 + days) * 24 * 60 * 60)
    }

    /// A certificate that is good from 2026-01-01 to 2026-04-01.
    fn certificate(is_ca: IsCa) -> Vec<u8> {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["shop.example".to_owned()];
        let mut params = CertificateParams::new(names).expect("a name");
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 4, 1);
        params.is_ca = is_ca;
        let signed = params.self_signed(&key).expect("a certificate");
        signed.der().to_vec()
    }

    #[test]
    fn t23_a_certificate_out_of_its_time_or_soon_so_is_told() {
        // Many a private one is its own authority.
        let own = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        for is_ca in [IsCa::NoCa, own] {
            let leaf = certificate(is_ca);
            let said = |at| fault(&leaf, at);
            let before = UNIX_EPOCH + Duration::from_secs(20_453 * 24 * 60 * 60);
            assert_eq!(
                said(before).as_deref(),
                Some("it is not valid before 2026-01-01T00:00:00Z, and clients refuse it")
            );
            assert_eq!(said(day(0)), None);
            assert_eq!(said(day(75)), None);
            assert_eq!(
                said(day(80)).as_deref(),
                Some("it expires on 2026-04-01T00:00:00Z, in 10 days")
            );
            assert_eq!(
                said(day(91)).as_deref(),
                Some("it expired on 2026-04-01T00:00:00Z, and clients refuse it")
            );
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_time() {
        assert_eq!(fault(b"no certificate", day(0)), None);
    }
}
