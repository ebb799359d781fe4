//! The call that accepts events.

use super::super::layout::{Keys, read_id};
use super::super::link::{Cmd, LinkError, Value};
use super::super::reply::Reply;
use super::{Scripts, When};
use crate::dispatch::OnDuplicate;

/// An event to accept.
#[derive(Clone, Debug)]
pub(crate) struct Emission {
    /// When it is due.
    pub(crate) due: When,
    /// Its unique key, if it has one.
    pub(crate) unique: Option<(String, OnDuplicate)>,
    /// Its envelope.
    pub(crate) payload: Vec<u8>,
}

/// Events that are accepted together or not at all. An event with a unique key is alone.
pub(crate) type Group = [Emission];

/// The call.
#[derive(Debug)]
pub(crate) struct EmitCall<'a> {
    /// The session of the caller.
    pub(crate) session: &'a str,
    /// The number of the call. A call that is repeated has the same number.
    pub(crate) seq: u64,
    /// How many events may be unfinished.
    pub(crate) max_unfinished: u64,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupReply {
    /// It was accepted. The ids are consecutive, from this one on.
    Accepted(u64),
    /// The other event stays in its place, or was replaced and keeps its id.
    Kept(u64),
    /// It was refused: this event has the same unique key.
    Duplicate(u64),
    /// It was refused: there is no room.
    Full,
}

impl EmitCall<'_> {
    /// Writes the call.
    pub(crate) fn write<'g>(
        &self,
        scripts: &Scripts,
        keys: &Keys,
        groups: impl ExactSizeIterator<Item = &'g Group>,
    ) -> Cmd {
        let mut call = scripts.emit.call(&[
            &keys.waiting,
            &keys.running,
            &keys.payloads,
            &keys.tokens,
            &keys.failures,
            &keys.unique,
            &keys.counters,
            &keys.wake,
        ]);
        call.arg(self.session)
            .arg(self.seq)
            .arg(self.max_unfinished)
            .arg(groups.len());
        for group in groups {
            debug_assert!(group.len() == 1 || group.iter().all(|event| event.unique.is_none()));
            let unique = group.first().and_then(|event| event.unique.as_ref());
            let is_at_once = group.iter().all(|event| event.due == When::Now);
            let kind = match unique {
                Some((_, OnDuplicate::Error)) => "e",
                Some((_, OnDuplicate::Keep)) => "k",
                Some((_, OnDuplicate::Replace)) => "r",
                None if is_at_once => "n",
                None => "d",
            };
            call.arg(group.len()).arg(kind);
            if let Some((key, _)) = unique {
                call.arg(key);
            }
            for event in group {
                if kind != "n" {
                    call.arg(event.due.write());
                }
                call.arg(&event.payload[..]);
            }
        }
        call
    }
}

impl GroupReply {
    /// Reads the reply, or `None` if a later call came first.
    ///
    /// # Errors
    ///
    /// Returns an error if the reply has another shape.
    pub(crate) fn read(reply: Value) -> Result<Option<Vec<GroupReply>>, LinkError> {
        let mut reply = Reply::new(reply)?;
        let mut groups = Vec::with_capacity(reply.len());
        while reply.len() > 0 {
            let word = reply.text()?;
            groups.push(match word.split_at_checked(1) {
                Some(("A", id)) => GroupReply::Accepted(read_id(id)?),
                Some(("K", id)) => GroupReply::Kept(read_id(id)?),
                Some(("D", id)) => GroupReply::Duplicate(read_id(id)?),
                Some(("F", "")) => GroupReply::Full,
                _ if word == "OLD" => return Ok(None),
                _ => return Err(LinkError::Shape),
            });
        }
        Ok(Some(groups))
    }
}
