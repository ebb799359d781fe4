//! Which of a thread's pacemakers is called next. It knows no thread and no clock: time is an argument, in nanoseconds.
//!
//! A pacemaker is either among the members, or out for its call, when `running` names it. So no lock is held while code of
//! the user's runs, and whoever stops a pacemaker waits only for its own call.

use std::collections::HashMap;

use super::member::Member;
use crate::due::DueQueue;

/// The pacemakers of a thread.
#[derive(Default)]
pub(super) struct Plan {
    /// Those that are not out for a call, by number.
    members: HashMap<u64, Member>,
    /// When each is due, ns, and its number. An entry is stale if its member is due at another time, or gone.
    due: DueQueue<u64>,
    /// The one that is out for its call.
    running: Option<u64>,
    /// What that one has to do afterwards.
    after: After,
    /// The number of the next pacemaker.
    next_id: u64,
}

/// What happens to a pacemaker after the call it is out for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum After {
    /// It waits for its next.
    #[default]
    GoOn,
    /// It begins anew.
    Restart,
    /// It is no more.
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

    /// The number of pacemakers that are not out for a call.
    pub(super) fn waiting(&self) -> usize {
        self.members.len()
    }

    /// Whether pacemaker `id` is out for its call.
    pub(super) fn is_running(&self, id: u64) -> bool {
        self.running == Some(id)
    }

    /// Lets pacemaker `id` begin anew at `now`.
    pub(super) fn restart(&mut self, id: u64, now: u64) {
        if let Some(mut member) = self.members.remove(&id) {
            member.restart(now);
            self.put(id, member);
        } else if self.is_running(id) {
            self.after = After::Restart;
        }
    }

    /// Takes pacemaker `id` out; one that is out for its call does not come back from it.
    pub(super) fn remove(&mut self, id: u64) -> Option<Member> {
        if self.is_running(id) {
            self.after = After::Retire;
        }
        self.members.remove(&id)
    }

    /// Sends the pacemaker that is due first out for its call, if it is due at `now`.
    pub(super) fn depart(&mut self, now: u64) -> Option<(u64, Member)> {
        let members = &self.members;
        let (_, id) = self.due.pop_due(now, |due, id| is_due(members, due, *id))?;
        self.running = Some(id);
        self.members.remove(&id).map(|member| (id, member))
    }

    /// When the next call is due.
    pub(super) fn next_due(&mut self) -> Option<u64> {
        let members = &self.members;
        let next = self.due.peek(|due, id| is_due(members, due, *id));
        next.map(|(due, _)| due)
    }

    /// Takes pacemaker `id` back from its call, which ended at `now`; hands it out if it was removed meanwhile.
    /// It counts as running until [`call_ended`](Plan::call_ended).
    pub(super) fn come_back(&mut self, id: u64, mut member: Member, now: u64) -> Option<Member> {
        match std::mem::take(&mut self.after) {
            After::Retire => return Some(member),
            After::Restart => member.restart(now),
            After::GoOn => {}
        }
        self.put(id, member);
        None
    }

    /// Nobody is out for a call any longer.
    pub(super) fn call_ended(&mut self) {
        self.running = None;
    }

    /// Puts `member` back among the others.
    fn put(&mut self, id: u64, member: Member) {
        self.due.push(member.due(), id);
        self.members.insert(id, member);
        let members = &self.members;
        self.due
            .sweep(members.len(), |due, id| is_due(members, due, *id));
    }
}

/// Whether pacemaker `id` is among `members` and due at `due`.
fn is_due(members: &HashMap<u64, Member>, due: u64, id: u64) -> bool {
    members.get(&id).is_some_and(|member| member.due() == due)
}
