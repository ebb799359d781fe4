//! The keys: 16 inline bytes such as `service-00000042`, and orders to use them in.

/// A name that fits in place: cloning it copies 16 bytes and allocates nothing.
pub(crate) type Name = [u8; 16];

/// The length of `service-`.
const PREFIX: usize = 8;

/// The name of key number `index`.
pub(crate) fn name(index: usize) -> Name {
    let mut name = *b"service-00000000";
    let mut rest = index;
    for digit in name[PREFIX..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    name
}

/// The number of the key that is called `name`.
pub(crate) fn index_of(name: &[u8]) -> usize {
    name[PREFIX..].iter().fold(0, |index, digit| {
        index * 10 + usize::from(digit.wrapping_sub(b'0'))
    })
}

/// Brings `items` into an order of no use to any cache, the same for the same `seed` (Fisher and Yates).
pub(crate) fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut random = Random::new(seed);
    for i in (1..items.len()).rev() {
        items.swap(i, random.below(i + 1));
    }
}

/// The numbers below `count`, shuffled.
pub(crate) fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(&mut order, seed);
    order
}

/// Marsaglia's xorshift64: enough for orders and for choosing who dies, and the same in every run.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A sequence of its own for each `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_number() {
        assert_eq!(&name(42), b"service-00000042");
        for index in [0, 9, 10, 12_345_678] {
            assert_eq!(index_of(&name(index)), index);
        }
    }

    #[test]
    fn an_order_has_every_number_once_and_depends_on_the_seed() {
        let order = shuffled(1_000, 1);
        assert_ne!(order, shuffled(1_000, 2));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1_000));
    }
}
