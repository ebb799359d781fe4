//! Peers that answer pings, until they fall silent.

use std::time::{Duration, Instant};

use crate::crowd::{Crowd, Input};
use crate::wire::pong;
use peers::Failure;

/// One peer.
#[derive(Clone, Debug, Default)]
struct Life {
    /// What of a frame has come.
    input: Vec<u8>,
    /// When it gave its last sign, once it is dead.
    died: Option<Instant>,
    /// When its connection ended.
    ended: Option<Instant>,
}

/// What the peers have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How much later than allowed each dead peer's connection ended, milliseconds, in ascending order.
    pub(crate) millis: Vec<f64>,
    /// How many dead peers' connections did not end.
    pub(crate) missed: usize,
    /// How many living peers' connections ended.
    pub(crate) wrong: usize,
}

/// The peers.
#[derive(Debug)]
pub(crate) struct Peers {
    /// The connections.
    crowd: Crowd,
    /// What is known of each.
    lives: Vec<Life>,
}

impl Peers {
    /// Takes the connections, whose peers are alive.
    pub(crate) fn new(crowd: Crowd) -> Self {
        let lives = vec![Life::default(); crowd.peers.len()];
        Peers { crowd, lives }
    }

    /// Lets each of `plan`, which is in the order of time, give a sign at its time, and be silent from then on if
    /// `dies`. The others answer pings. Returns at `end`, or once all that have died were dropped.
    pub(crate) fn run(
        &mut self,
        plan: &[(Instant, usize)],
        dies: bool,
        end: Instant,
    ) -> Result<(), Failure> {
        let mut plan = plan.iter().peekable();
        let mut left = if dies { plan.len() } else { usize::MAX };
        while left > 0 {
            let now = Instant::now();
            if now >= end {
                break;
            }
            while let Some((_, index)) = plan.next_if(|(at, _)| *at <= now) {
                if dies {
                    // Before the sign: the server cannot have it earlier.
                    self.lives[*index].died = Some(Instant::now());
                }
                self.crowd.peers[*index].write(&pong(&[]));
            }
            let next = plan.peek().map_or(end, |(at, _)| *at).min(end);
            let lives = &mut self.lives;
            let within = next.saturating_duration_since(Instant::now());
            self.crowd.turn(within, |index, peer, input| {
                let life = &mut lives[index];
                let mut has_ended = false;
                match input {
                    Input::End => has_ended = true,
                    Input::Bytes(bytes) => {
                        life.input.extend_from_slice(bytes);
                        while let [first, len, rest @ ..] = &life.input[..]
                            && let Some(payload) = rest.get(..usize::from(*len))
                        {
                            match first & 0x0F {
                                9 if life.died.is_none() => peer.write(&pong(payload)),
                                8 => has_ended = true,
                                _ => {}
                            }
                            let size = 2 + payload.len();
                            life.input.drain(..size);
                        }
                        if life.input.is_empty() {
                            life.input = Vec::new();
                        }
                    }
                }
                if has_ended && life.ended.is_none() {
                    life.ended = Some(Instant::now());
                    left -= usize::from(life.died.is_some());
                }
            })?;
        }
        Ok(())
    }

    /// Returns what the peers have seen, if silence is allowed for `drop_after`.
    pub(crate) fn seen(&self, drop_after: Duration) -> Seen {
        let mut seen = Seen::default();
        for life in &self.lives {
            match (life.died, life.ended) {
                (Some(died), Some(ended)) => {
                    let late = ended.duration_since(died).as_secs_f64() - drop_after.as_secs_f64();
                    seen.millis.push(late * 1e3);
                }
                (Some(_), None) => seen.missed += 1,
                (None, Some(_)) => seen.wrong += 1,
                (None, None) => {}
            }
        }
        seen.millis.sort_unstable_by(f64::total_cmp);
        seen
    }
}

/// Returns `count` random moments within `window` from now on, in their order, for peers in a random order.
pub(crate) fn plan(count: usize, of: usize, window: Duration) -> Vec<(Instant, usize)> {
    let now = Instant::now();
    let mut state = 0x1234_5678_u64;
    let mut random = move || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut it = state;
        it = (it ^ it >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        it = (it ^ it >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        it ^ it >> 31
    };
    let mut order: Vec<usize> = (0..of).collect();
    for at in (1..of).rev() {
        order.swap(at, random() as usize % (at + 1));
    }
    let nanos = (window.as_nanos() as u64).max(1);
    let mut times: Vec<Instant> = (0..count)
        .map(|_| now + Duration::from_nanos(random() % nanos))
        .collect();
    times.sort_unstable();
    times.into_iter().zip(order).collect()
}
