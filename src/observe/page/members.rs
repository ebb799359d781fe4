//! Which members of a part changed since the last look.

use std::collections::HashMap;

use crate::observe::measure::{Member, State};

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was not there before.
    Joined,
    /// It is in another state.
    Now(State),
    /// It is no longer there.
    Gone,
}

/// What changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The members that are new or in another state.
    pub(crate) set: Vec<Member>,
    /// The labels of those that are no longer there.
    pub(crate) gone: Vec<String>,
    /// The same as a story.
    pub(crate) fates: Vec<(String, Fate)>,
}

/// The members at the last look.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    /// The members by label, and the number of the look that saw each one last.
    members: HashMap<String, (State, u64, u64)>,
    /// The number of looks.
    looks: u64,
}

impl Roll {
    /// Takes the members that are there at `now`, ms, and returns what changed. The time of a change is that of the
    /// look, and the time of a new member is its own. New members of the first look are no change.
    pub(crate) fn update(&mut self, found: Vec<Member>, now: u64) -> Changes {
        self.looks += 1;
        let (looks, mut changes) = (self.looks, Changes::default());
        for member in found {
            let Member {
                label,
                state,
                since,
            } = member;
            let Some(known) = self.members.get_mut(&label) else {
                if looks > 1 {
                    changes.fates.push((label.clone(), Fate::Joined));
                }
                let member = (state, since, looks);
                self.members.insert(label.clone(), member);
                changes.set.push(Member {
                    label,
                    state,
                    since,
                });
                continue;
            };
            known.2 = looks;
            if known.0 != state {
                *known = (state, now, looks);
                changes.fates.push((label.clone(), Fate::Now(state)));
                let since = now;
                changes.set.push(Member {
                    label,
                    state,
                    since,
                });
            }
        }
        self.members.retain(|label, (_, _, seen)| {
            let stays = *seen == looks;
            if !stays {
                changes.gone.push(label.clone());
                changes.fates.push((label.clone(), Fate::Gone));
            }
            stays
        });
        changes
    }

    /// Returns whether there was no look yet.
    pub(crate) fn is_new(&self) -> bool {
        self.looks == 0
    }

    /// Returns all members.
    pub(crate) fn all(&self) -> Vec<Member> {
        let members = self.members.iter();
        let members = members.map(|(label, &(state, since, _))| Member {
            label: label.clone(),
            state,
            since,
        });
        members.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(label: &str, state: State) -> Member {
        Member {
            label: label.to_owned(),
            state,
            since: 5,
        }
    }

    #[test]
    fn only_differences_are_reported_and_the_first_look_is_no_story() {
        let mut roll = Roll::default();
        let (a, b) = (member("a", State::Up), member("b", State::Up));
        let changes = roll.update(vec![a.clone(), b.clone()], 10);
        assert_eq!((changes.set, changes.fates), (vec![a.clone(), b], vec![]));
        let down = member("b", State::Down);
        let changes = roll.update(vec![a.clone(), down], 20);
        assert_eq!(changes.fates, [("b".to_owned(), Fate::Now(State::Down))]);
        assert_eq!((changes.set.len(), changes.set[0].since), (1, 20));
        let c = member("c", State::Joining);
        let changes = roll.update(vec![a.clone(), c.clone()], 30);
        assert_eq!(
            (&changes.set[..], &changes.gone[..]),
            (&[c][..], &["b".to_owned()][..])
        );
        let changes = roll.update(vec![a], 40);
        assert_eq!((changes.set, changes.gone), (vec![], vec!["c".to_owned()]));
        assert_eq!(roll.all().len(), 1);
    }
}
