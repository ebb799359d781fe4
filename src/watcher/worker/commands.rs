//! Executing commands, after all beats that were sent before them, and answering them.

use super::{BATCH, Setup, Worker, dismantle_copy, warn_of_refusal};
use crate::panic::discard;
use crate::status::Status;
use crate::sync::answer;
use crate::table::{Refusal, Table};
use crate::watcher::inbox::{Command, Statuses};
use crate::watcher::outbox::Outlet;

/// How many keys a snapshot copies between two records of progress, because a copy may take long.
const SNAPSHOT_STEP: usize = 64;

impl<K: Eq + Clone + 'static, V: Clone + 'static> Worker<K, V> {
    /// Executes a command.
    pub(super) fn execute(&mut self, command: Command<K, V>) {
        let Setup {
            index,
            inbox,
            table,
            ..
        } = &mut self.setup;
        match command {
            // The caller may be gone.
            Command::Join(beat, reply) => {
                let refused = table.beat(beat).err();
                drop(reply.send(refused.map(|Refusal(key)| key)));
            }
            Command::JoinMany {
                stamp,
                mut keys,
                reply,
            } => {
                let refused = &mut self.refused;
                table.beat_keys(stamp, &mut keys, BATCH, |key| refused.push(key));
                if let Err(unheard) = reply.send(std::mem::take(refused)) {
                    unheard.0.into_iter().for_each(discard);
                }
                inbox.give_buffer(keys);
            }
            Command::Watch(beat, table_side, reply) => {
                let has_room = table.watch(beat, table_side).is_ok();
                match reply {
                    Some(reply) => drop(reply.send(has_room)),
                    None if !has_room => warn_of_refusal(*index),
                    None => {}
                }
            }
            Command::Release {
                tag,
                key,
                cell,
                leave,
            } => {
                if table.release(tag, &key, &cell, leave) {
                    self.take_back(&key);
                }
            }
            Command::Set(beat, cell) => drop(table.set(beat, cell.as_ref())),
            Command::Remove(tag, key) => {
                table.remove(tag, &key);
                self.take_back(&key);
            }
            Command::Status(tag, key, reply) => drop(reply.send(table.status(tag, &key))),
            Command::Snapshot(reply) => {
                let all = self.copy_in_steps(Table::snapshot);
                send_copies(&reply, all);
            }
            Command::SnapshotDown(reply) => {
                let down = self.copy_in_steps(Table::snapshot_down);
                send_copies(&reply, down);
            }
            Command::Flush { reply, waits } => {
                // A sink on this thread makes room by itself.
                let waits = waits || !matches!(self.setup.outlet, Some(Outlet::Outbox(_)));
                self.flushes.add(reply, waits);
            }
        }
    }

    /// Copies the keys and statuses of `select` in steps, because a long copy of many keys is work and not a stall.
    fn copy_in_steps<'a, I: Iterator<Item = (K, Status<V>)>>(
        &'a mut self,
        select: impl FnOnce(&'a Table<K, V>) -> I,
    ) -> Statuses<K, V> {
        let Worker {
            setup,
            copies,
            stall,
            ..
        } = self;
        let Setup { table, clock, .. } = setup;
        let mut rest = select(table);
        copies.reserve(rest.size_hint().0);
        loop {
            let before = copies.len();
            copies.extend(rest.by_ref().take(SNAPSHOT_STEP));
            if copies.len() == before {
                return std::mem::take(copies);
            }
            stall.record_progress(clock.now_ns(), table.shortest_timeout());
        }
    }

    /// Cancels the expiry of a removed key in the outbox.
    fn take_back(&mut self, key: &K) {
        if let Some(Outlet::Outbox(outbox)) = &self.setup.outlet {
            outbox.cancel(self.setup.index, key, self.setup.wanted);
        }
    }
}

/// Answers with `copies`, which are dropped one by one if the caller is gone.
fn send_copies<K, V>(reply: &answer::Sender<Statuses<K, V>>, copies: Statuses<K, V>) {
    if let Err(unheard) = reply.send(copies) {
        unheard.0.into_iter().for_each(dismantle_copy);
    }
}
