//! Which node a key belongs to, whoever asks: highest random weight.
//!
//! Each node draws a number from the key and its own id, and the best draw has the key (Thaler and Ravishankar, "Using
//! name-based mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998). Weights count by the
//! logarithmic method (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005): a draw `v` from 0 to 1
//! becomes the waiting time `-ln(1 - v) / weight`, and the shortest wins. Such a time is exponentially distributed, and of
//! several the shortest is a node's in proportion to its weight.
//!
//! Two balancers must come to the same answer, so nothing here depends on the process, the machine or a library's version:
//! the hash is FNV-1a, its words in little endian, and the logarithm is made of the four operations that IEEE 754 fixes to
//! the last bit, which it does not do for `ln`. The hashers at hand would not do: std's `DefaultHasher`, `ahash`, `foldhash`
//! and `rustc-hash` may change with a version, std's `SipHasher` is fixed but deprecated, and for the `siphasher` crate a
//! node's id and a key are too little work.

use std::hash::{Hash, Hasher};

/// The bits of a draw: as many as an `f64` holds exactly.
const DRAW_BITS: u32 = f64::MANTISSA_DIGITS;

/// Above every draw.
const DRAWS: f64 = (1u64 << DRAW_BITS) as f64;

/// The number that stands for `value`, in every process and on every machine.
pub(super) fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = Fnv::default();
    value.hash(&mut hasher);
    spread(hasher.finish())
}

/// The search for the node that has a key.
#[derive(Debug)]
pub(super) struct Contest {
    /// The hash of the key.
    key: u64,
    /// The shortest time so far, and the hash of the node that it is of, which decides between equal times.
    best: (f64, u64),
}

impl Contest {
    /// A search for the owner of the key with this hash.
    pub(super) fn new(key: u64) -> Self {
        Contest {
            key,
            best: (f64::INFINITY, 0),
        }
    }

    /// What the node with this hash draws, of [`DRAW_BITS`] bits.
    pub(super) fn draw(&self, node: u64) -> u64 {
        spread(self.key ^ node) >> (u64::BITS - DRAW_BITS)
    }

    /// No node of at most this weight wins with a draw above the bound. This spares most nodes the logarithm: since
    /// `-ln(1 - v) >= v`, the time of a draw is at least the draw over the weight. What may be lost in rounding is added,
    /// and more.
    pub(super) fn bound(&self, weight: u64) -> u64 {
        #[expect(clippy::cast_sign_loss, reason = "no factor is below zero")]
        let bound = (self.best.0 * weight as f64 * DRAWS * (1.0 + 1e-9)) as u64;
        bound.saturating_add(1)
    }

    /// Whether the node with this hash and weight is better than all before. One without weight never is.
    pub(super) fn enter(&mut self, node: u64, weight: u64, draw: u64) -> bool {
        let entry = (waiting(draw) / weight as f64, node);
        let is_better = weight > 0 && entry < self.best;
        if is_better {
            self.best = entry;
        }
        is_better
    }
}

/// The waiting time at weight one that a draw stands for: `-ln(1 - draw / DRAWS)`, with an error of a few units in the last
/// place, by `ln x = 2 artanh((x - 1) / (x + 1))` on the mantissa.
fn waiting(draw: u64) -> f64 {
    const MANTISSA: u64 = (1 << (f64::MANTISSA_DIGITS - 1)) - 1;
    let x = 1.0 - draw as f64 / DRAWS; // exact, from 2^-53 to 1
    let exponent = (x.to_bits() >> (f64::MANTISSA_DIGITS - 1)) as i32 - 1023;
    let mantissa = f64::from_bits(x.to_bits() & MANTISSA | 1.0f64.to_bits());
    // From 3/4 to 3/2, so that nothing cancels out next to one, where winners are.
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

/// A number spread over all of `u64`: the finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", OOPSLA 2014).
fn spread(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo), which spreads too little by itself, hence [`spread`].
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

    // As they are by default, numbers would count in the machine's own order and size.
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

    /// If one of these changes, balancers of two versions disagree: a breaking change.
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
