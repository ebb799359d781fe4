//! Highest random weight: assigns a key to the same node in every process.
//!
//! Each node draws a number from the key and its own id, and the best draw owns the key (Thaler and Ravishankar, "Using
//! name-based mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998). Weights follow the
//! logarithmic method (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005): a draw `v` from 0
//! to 1 becomes the waiting time `-ln(1 - v) / weight`, and the shortest time wins. These times are exponentially
//! distributed, so the probability that a node's time is the shortest is proportional to its weight.
//!
//! Two load balancers must compute the same answer, so nothing here depends on the process, the machine or the version
//! of a library. The hash is FNV-1a, whose words are read in little endian. The logarithm is composed of the four
//! operations that IEEE 754 fixes to the last bit, unlike `ln`. Existing hashers are unsuitable: std's `DefaultHasher`,
//! `ahash`, `foldhash` and `rustc-hash` may change with a version, and std's `SipHasher` is deprecated. The `siphasher`
//! crate would be one more dependency for a few lines.

use std::hash::{Hash, Hasher};

/// The number of bits of a draw: as many as an `f64` holds exactly.
const DRAW_BITS: u32 = f64::MANTISSA_DIGITS;

/// Greater than every draw.
const DRAWS: f64 = (1u64 << DRAW_BITS) as f64;

/// Returns the hash of `value`, which is the same in every process and on every machine.
pub(super) fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = Fnv::default();
    value.hash(&mut hasher);
    spread(hasher.finish())
}

/// The search for the node that owns a key.
#[derive(Debug)]
pub(super) struct Contest {
    /// The hash of the key.
    key: u64,
    /// The shortest time so far and the hash of its node, which decides between equal times.
    best: (f64, u64),
}

impl Contest {
    /// Starts a search for the owner of the key with this hash.
    pub(super) fn new(key: u64) -> Self {
        Contest {
            key,
            best: (f64::INFINITY, 0),
        }
    }

    /// Returns the draw of the node with this hash, a number of [`DRAW_BITS`] bits.
    pub(super) fn draw(&self, node: u64) -> u64 {
        spread(self.key ^ node) >> (u64::BITS - DRAW_BITS)
    }

    /// Returns a bound on draws: a node of at most this weight with a greater draw cannot win. This avoids the
    /// logarithm for most nodes: since `-ln(1 - v) >= v`, the time of a draw is at least the draw divided by the
    /// weight. The bound is increased by more than can be lost in rounding.
    pub(super) fn bound(&self, weight: u64) -> u64 {
        #[expect(clippy::cast_sign_loss, reason = "no factor is below zero")]
        let bound = (self.best.0 * weight as f64 * DRAWS * (1.0 + 1e-9)) as u64;
        bound.saturating_add(1)
    }

    /// Returns whether the node with this hash and weight is better than all previous ones. A node without weight never
    /// is.
    pub(super) fn enter(&mut self, node: u64, weight: u64, draw: u64) -> bool {
        let entry = (waiting(draw) / weight as f64, node);
        let is_better = weight > 0 && entry < self.best;
        if is_better {
            self.best = entry;
        }
        is_better
    }
}

/// Returns the waiting time of a draw at weight one, `-ln(1 - draw / DRAWS)`. The error is a few units in the last
/// place. Computed by `ln x = 2 artanh((x - 1) / (x + 1))` on the mantissa.
fn waiting(draw: u64) -> f64 {
    const MANTISSA: u64 = (1 << (f64::MANTISSA_DIGITS - 1)) - 1;
    let x = 1.0 - draw as f64 / DRAWS; // exact, from 2^-53 to 1
    let exponent = (x.to_bits() >> (f64::MANTISSA_DIGITS - 1)) as i32 - 1023;
    let mantissa = f64::from_bits(x.to_bits() & MANTISSA | 1.0f64.to_bits());
    // From 3/4 to 3/2, so that nothing cancels near one, where the winners are.
    let (mantissa, exponent) = if mantissa > 1.5 {
        (mantissa / 2.0, exponent + 1)
    } else {
        (mantissa, exponent)
    };
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..13)
        .rev()
        .fold(0.0, |sum, k| sum * (s * s) + 2.0 / f64::from(2 * k + 1));
    -(f64::from(exponent) * std::f64::consts::LN_2 + s * series)
}

/// Spreads a number over all of `u64` by the finalizer of splitmix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014).
fn spread(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo). It spreads too little by itself, hence [`spread`].
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xCBF2_9CE4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    // By default, numbers would be hashed in the byte order and the size of the machine.
    fn write_u16(&mut self, n: u16) {
        self.write(&n.to_le_bytes());
    }

    fn write_u32(&mut self, n: u32) {
        self.write(&n.to_le_bytes());
    }

    fn write_u64(&mut self, n: u64) {
        self.write(&n.to_le_bytes());
    }

    fn write_u128(&mut self, n: u128) {
        self.write(&n.to_le_bytes());
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_i64(n as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_as_published() {
        for (text, expected) in [
            ("", 0xCBF2_9CE4_8422_2325),
            ("a", 0xAF63_DC4C_8601_EC8C),
            ("foobar", 0x8594_4171_F739_67E8),
        ] {
            let mut fnv = Fnv::default();
            fnv.write(text.as_bytes());
            assert_eq!(fnv.finish(), expected, "{text}");
        }
    }

    /// If one of these values changes, load balancers of two versions disagree, which is a breaking change.
    #[test]
    fn hashes_are_the_same_for_ever() {
        assert_eq!(hash("node-7"), 0x5952_9795_1EC1_FCCB);
        assert_eq!(hash(&7u16), 0x46FE_9BEC_BEDC_7467);
        assert_eq!(hash(&7u64), 0xAE25_3598_B337_821E);
        assert_eq!(hash(&7u64), hash(&7usize));
        assert_eq!(hash(&-7i64), hash(&-7isize));
    }

    #[test]
    fn the_logarithm_is_right_to_the_last_digits() {
        let draws = (1..100_000).map(|i| spread(i) >> 11);
        let small = (0..53).map(|bits| 1 << bits);
        let large = (0..53).map(|bits| (1 << 53) - (1 << bits));
        assert!(waiting(0).abs() < f64::MIN_POSITIVE);
        for draw in draws.chain(small).chain(large) {
            let expected = -(-(draw as f64 / DRAWS)).ln_1p();
            let error = (waiting(draw) / expected - 1.0).abs();
            assert!(error < 1e-15, "{draw}: {} for {expected}", waiting(draw));
        }
    }

    #[test]
    fn no_time_is_less_than_its_draw_but_for_rounding() {
        for draw in (0..100_000).map(|i| spread(i) >> 11) {
            assert!(waiting(draw) >= draw as f64 / DRAWS * (1.0 - 1e-15));
        }
    }

    #[test]
    fn the_one_without_weight_never_wins() {
        let mut contest = Contest::new(1);
        assert!(!contest.enter(0, 0, 0));
        assert!(!contest.enter(2, 0, 5));
        assert!(contest.enter(3, 1, (1 << DRAW_BITS) - 1));
    }

    #[test]
    fn equal_times_go_to_the_lesser_hash_in_either_order() {
        for nodes in [[3, 4], [4, 3]] {
            let mut contest = Contest::new(1);
            let winners: Vec<_> = nodes
                .into_iter()
                .filter(|&node| contest.enter(node, 1, 77))
                .collect();
            assert_eq!(winners.last(), Some(&3));
        }
    }
}
