//! A report that a keeper was handed out.

use std::borrow::Cow;
use std::time::Duration;

/// A report as Redis stores it, and where its parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// `fence:attempt:deadline:timeout:key`.
    text: Vec<u8>,
    /// The fence.
    fence: u64,
    /// How often it was handed out.
    attempt: u64,
    /// The timeout of the key, us.
    timeout: u64,
    /// How long after the deadline it was handed out, us.
    late: u64,
    /// Where the key begins.
    key: usize,
}

impl Report {
    /// Reads `text`, which was handed out at `now`, us. Returns `None` if it is no report.
    pub(crate) fn new(text: Vec<u8>, now: u64) -> Option<Self> {
        let mut parts = text.splitn(5, |byte| *byte == b':');
        let mut number = || str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
        let (fence, attempt, deadline, timeout) = (number()?, number()?, number()?, number()?);
        let key = text.len() - parts.next()?.len();
        Some(Report {
            late: now.saturating_sub(deadline),
            text,
            fence,
            attempt,
            timeout,
            key,
        })
    }

    /// Returns it as Redis stores it.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Returns the report for the callback, which gets it `waited` after it was handed out.
    pub(crate) fn expired(&self, waited: Duration) -> Expired {
        let lateness = Duration::from_micros(self.late) + waited;
        Expired {
            key: self.text[self.key..].to_vec(),
            timeout: Duration::from_micros(self.timeout),
            lateness,
            fence: self.fence,
            attempt: self.attempt,
        }
    }
}

/// A key that was silent for longer than its timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Expired {
    /// The key.
    pub key: Vec<u8>,
    /// Its timeout.
    pub timeout: Duration,
    /// The time from its deadline to this call of the callback. Time in which nobody could beat does not count.
    pub lateness: Duration,
    /// A number that rises with each report of a key, and each time that a report is handed out. Who stores what it
    /// does about a report can store the fence with it, and refuse lower ones.
    pub fence: u64,
    /// How often this report was handed out: 1, or more if other keepers, or this one, have not delivered it.
    pub attempt: u64,
}

impl Expired {
    /// Returns the key as text. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn key_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }

    /// Returns how long the key has been silent: its timeout and the lateness.
    #[must_use]
    pub fn silent_for(&self) -> Duration {
        self.timeout + self.lateness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_whatever_its_key_is() {
        for key in [&b"a:b::c"[..], b"", b"\n\0\xff:"] {
            let text = [b"12:3:1000:500:", key].concat();
            let report = Report::new(text.clone(), 1_250).unwrap();
            assert_eq!(report.text(), text);
            let expired = report.expired(Duration::from_micros(50));
            assert_eq!(expired.key, key);
            assert_eq!((expired.fence, expired.attempt), (12, 3));
            assert_eq!(expired.lateness, Duration::from_micros(300));
            assert_eq!(expired.silent_for(), Duration::from_micros(800));
        }
        for bad in [&b""[..], b"1:2:3:4", b"1:2:x:4:key", b"1:2:-3:4:key"] {
            assert_eq!(Report::new(bad.to_vec(), 0), None);
        }
    }
}
