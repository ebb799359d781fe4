//! Determines which of a thread's pacemakers is called next. It knows no thread and no clock: time is an argument, in
//! nanoseconds.
//!
//! A pacemaker is either among the members, or removed from them for its call, and then named by `running`. No lock is
//! therefore held while user code runs, and a thread that stops a pacemaker waits only for that pacemaker's call.

use std::collections::HashMap;

use super::member::Member;
use crate::due::DueQueue;

/// The pacemakers of a thread.
#[derive(Default)]
pub(super) struct Plan {
    /// The pacemakers that are not being called, by number.
    members: HashMap<u64, Member>,
    /// The number of each pacemaker by the time at which it is due, ns. An entry is stale if its member is due at
    /// another time, or has been removed.
    due: DueQueue<u64>,
    /// The pacemaker that is being called.
    running: Option<u64>,
    /// What happens to that pacemaker after the call.
    after: After,
    /// The number of the next pacemaker.
    next_id: u64,
}

/// What happens to a pacemaker after its call.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum After {
    /// It waits for its next call.
    #[default]
    GoOn,
    /// It restarts.
    Restart,
    /// It is dropped.
    Retire,
}

impl Plan {
    /// Adds a pacemaker, and returns its number.
    pub(super) fn add(&mut self, member: Member) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.put(id, member);
        id
    }

    /// Returns the number of pacemakers that are not being called.
    pub(super) fn waiting(&self) -> usize {
        self.members.len()
    }

    /// Returns whether pacemaker `id` is being called.
    pub(super) fn is_running(&self, id: u64) -> bool {
        self.running == Some(id)
    }

    /// Restarts pacemaker `id` at `now`.
    pub(super) fn restart(&mut self, id: u64, now: u64) {
        if let Some(mut member) = self.members.remove(&id) {
            member.restart(now);
            self.put(id, member);
        } else if self.is_running(id) {
            self.after = After::Restart;
        }
    }

    /// Removes pacemaker `id`. If it is being called, it is dropped after the call.
    pub(super) fn remove(&mut self, id: u64) -> Option<Member> {
        if self.is_running(id) {
            self.after = After::Retire;
        }
        self.members.remove(&id)
    }

    /// Takes the pacemaker that is due first for its call, if it is due at `now`.
    pub(super) fn depart(&mut self, now: u64) -> Option<(u64, Member)> {
        let members = &self.members;
        let (_, id) = self.due.pop_due(now, |due, id| is_due(members, due, *id))?;
        self.running = Some(id);
        self.members.remove(&id).map(|member| (id, member))
    }

    /// Returns when the next call is due.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        let members = &self.members;
        let next = self.due.peek(|due, id| is_due(members, due, *id));
        next.map(|(due, _)| due)
    }

    /// Returns pacemaker `id` to the members after its call, which ended at `now`. If the pacemaker was removed
    /// meanwhile, returns it to the caller. It counts as being called until [`call_ended`](Plan::call_ended).
    pub(super) fn come_back(&mut self, id: u64, mut member: Member, now: u64) -> Option<Member> {
        match std::mem::take(&mut self.after) {
            After::Retire => return Some(member),
            After::Restart => member.restart(now),
            After::GoOn => {}
        }
        self.put(id, member);
        None
    }

    /// Records that no pacemaker is being called.
    pub(super) fn call_ended(&mut self) {
        self.running = None;
    }

    /// Adds `member` to the members again.
    fn put(&mut self, id: u64, member: Member) {
        self.due.push(member.due(), id);
        self.members.insert(id, member);
        let members = &self.members;
        self.due
            .sweep(members.len(), |due, id| is_due(members, due, *id));
    }
}

/// Returns whether pacemaker `id` is among `members` and due at `due`.
fn is_due(members: &HashMap<u64, Member>, due: u64, id: u64) -> bool {
    members.get(&id).is_some_and(|member| member.due() == due)
}
