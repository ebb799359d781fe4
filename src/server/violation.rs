//! How a peer breaks the rules, and what follows.

use std::borrow::Cow;

use super::close::{Cause, Ending};

/// How the peer broke the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The frames are wrong, in this way.
    Protocol(&'static str),
    /// A message is longer than the limit.
    TooBig,
    /// A text is not UTF-8.
    BadText,
    /// The codec takes no text.
    NotBinary,
    /// A message is no envelope, for this reason.
    BadMessage(String),
}

impl Violation {
    /// Returns the end of the session that follows.
    pub(crate) fn into_ending(self) -> Ending {
        let (cause, reason): (_, Cow<'static, str>) = match self {
            Violation::Protocol(what) => (Cause::Protocol, what.into()),
            Violation::TooBig => (Cause::TooBig, "the message is too big".into()),
            Violation::BadText => (Cause::BadText, "the text is not UTF-8".into()),
            Violation::NotBinary => {
                let ending = Ending::new(Cause::Protocol, "the codec takes no text");
                return ending.with_code(1003);
            }
            Violation::BadMessage(why) => (Cause::BadMessage, why.into()),
        };
        Ending::new(cause, reason)
    }
}
