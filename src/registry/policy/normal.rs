//! The upper tail of the standard normal distribution, in logarithms, and its inverse.
//!
//! *Q(z)* is the probability that a standard normal variable exceeds *z*. Far from the mean it is too small for an
//! `f64`, and `1 - cdf` has lost all digits already beyond *z* = 8. The logarithm of *Q* has neither problem. Formulas:
//! Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.2.11 (series) and 26.2.14 (continued fraction).

use std::f64::consts::{LN_2, LN_10, PI};

/// The value of *z* from which the continued fraction is used; the series is used below it. The series loses a digit
/// when the tail falls to a hundredth.
const FAR: f64 = 2.0;

/// The number of terms of the continued fraction *Q* / density = 1/(*z* + 1/(*z* + 2/(*z* + 3/(*z* + …)))) that give
/// all digits of an `f64` at [`FAR`], where it converges most slowly.
const TERMS: u32 = 100;

/// More steps than any root needs, since each step doubles the number of correct digits.
const STEPS: usize = 60;

/// Returns the natural logarithm of *Q(z)*, accurate to a few units in the last place, or to a few in 10^15 between 0
/// and [`FAR`].
pub(super) fn ln_tail(z: f64) -> f64 {
    if z < 0.0 {
        (-ln_tail(-z).exp()).ln_1p()
    } else {
        ln_density(z) + mills(z).ln()
    }
}

/// Returns the *z* at which *Q(z)* is 10^-`exponent`, or NaN unless `exponent` is greater than zero.
pub(super) fn point(exponent: f64) -> f64 {
    if exponent.is_nan() || exponent <= 0.0 {
        return f64::NAN;
    }
    let ln_p = -exponent * LN_10;
    if ln_p <= -LN_2 {
        upper_point(ln_p)
    } else {
        // More than half lies above the point. By symmetry, the point is as far below zero as the point for the rest is
        // above.
        -upper_point((-ln_p.exp_m1()).ln())
    }
}

/// Returns the *z* of at least zero at which ln *Q(z)* is `ln_p`, by Newton's method. ln *Q* is concave and the start
/// is too large, so every step comes nearer and none overshoots.
fn upper_point(ln_p: f64) -> f64 {
    let mut z = (-2.0 * ln_p).sqrt();
    for _ in 0..STEPS {
        // The slope of ln Q is -1 / Mills' ratio.
        let step = (ln_tail(z) - ln_p) * mills(z);
        if step.is_nan() || step.abs() <= z * f64::EPSILON {
            break;
        }
        z += step;
    }
    z
}

/// Returns the natural logarithm of the density at `z`.
fn ln_density(z: f64) -> f64 {
    -0.5 * z * z - 0.5 * (2.0 * PI).ln()
}

/// Returns Mills' ratio *Q(z)* / density, for `z` of at least zero.
fn mills(z: f64) -> f64 {
    if z < FAR {
        0.5 / ln_density(z).exp() - series(z)
    } else {
        1.0 / (1..=TERMS).rev().fold(z, |rest, k| z + f64::from(k) / rest)
    }
}

/// Returns (*Q(0)* - *Q(z)*) / density: *z* + *z*³/3 + *z*⁵/(3·5) + …
fn series(z: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (0.0, z, 1.0);
    while sum + term > sum {
        sum += term;
        odd += 2.0;
        term *= z * z / odd;
    }
    sum
}

/// Returns ln *Q(z)* computed in another way, to test against: Mills' ratio is the integral of exp(-*zt* - *t*²/2) over
/// *t* from zero. The integrand is smooth and falls below 1e-14 of its maximum before `reach`, so Simpson's rule with
/// `halves` steps is accurate enough.
#[cfg(test)]
pub(super) fn ln_tail_by_integration(z: f64, halves: u32) -> f64 {
    if z < 0.0 {
        return (1.0 - ln_tail_by_integration(-z, halves).exp()).ln();
    }
    let reach = 9.0 / (1.0 + z / 5.0);
    let step = reach / f64::from(halves);
    let value = |nth: u32| {
        let t = f64::from(nth) * step;
        (-z * t - 0.5 * t * t).exp()
    };
    let sum: f64 = (1..halves)
        .map(|nth| if nth % 2 == 1 { 4.0 } else { 2.0 } * value(nth))
        .sum();
    let integral = (value(0) + sum + value(halves)) * step / 3.0;
    ln_density(z) + integral.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that two numbers differ by at most `within` of the second.
    #[track_caller]
    fn assert_near(found: f64, expected: f64, within: f64) {
        assert!(
            (found - expected).abs() <= within * expected.abs(),
            "{found} is not {expected}"
        );
    }

    #[test]
    fn the_tail_is_that_of_published_tables() {
        // 1 - P(x) of Abramowitz and Stegun, table 26.1, and -log10 Q(x) of table 26.2.
        let tail = [(0.0, 0.5), (0.5, 0.308_537_54), (1.0, 0.158_655_25)];
        let far_tail = [
            (1.5, 0.066_807_20),
            (2.0, 0.022_750_13),
            (3.0, 0.001_349_90),
        ];
        for (z, expected) in tail.into_iter().chain(far_tail) {
            assert!((ln_tail(z).exp() - expected).abs() < 1e-8, "{z}");
            assert!((ln_tail(-z).exp() - (1.0 - expected)).abs() < 1e-8, "-{z}");
        }
        let logarithms = [
            (5.0, 6.54265),
            (6.0, 9.00586),
            (7.0, 11.89285),
            (10.0, 23.11805),
            (20.0, 88.56010),
        ];
        for (z, expected) in logarithms {
            assert!((-ln_tail(z) / LN_10 - expected).abs() < 6e-6, "{z}");
        }
    }

    #[test]
    fn the_tail_has_all_digits_on_both_sides_of_zero() {
        // Computed with sixty digits and rounded to seventeen.
        let exact = [
            (-5.0, -2.866_516_129_637_636e-7),
            (-1.0, -0.172_753_779_023_449_89),
            (0.0, -LN_2),
            (0.5, -1.175_911_761_593_618_6),
            (1.0, -1.841_021_645_009_263_5),
            (2.0, -3.783_184_333_682_032),
            (3.0, -6.607_726_221_510_349),
            (7.0, -27.384_307_498_811_075),
            (37.0, -689.030_585_576_890_6),
        ];
        for (z, expected) in exact {
            assert_near(ln_tail(z), expected, 2e-15);
        }
    }

    #[test]
    fn the_tail_is_that_of_numeric_integration() {
        for nth in 0..400 {
            let z = f64::from(nth) * 0.097;
            assert_near(ln_tail(z), ln_tail_by_integration(z, 10_000), 1e-13);
        }
    }

    #[test]
    fn the_tail_falls_without_a_jump_from_one_way_to_the_other() {
        for split in [0.0, FAR] {
            let mut last = ln_tail(split - 1e-9);
            for nth in -999..1_000 {
                let next = ln_tail(split + f64::from(nth) * 1e-12);
                assert!(next <= last && last - next < 1e-8, "{split} {nth}");
                last = next.min(last) + 1e-15 * last.abs();
            }
        }
    }

    #[test]
    fn points_are_those_of_published_tables() {
        // The first digits agree with Abramowitz and Stegun, tables 26.5 and 26.6; all were computed with sixty digits.
        let exact = [
            (1.0, 1.281_551_565_544_600_5),
            (2.0, 2.326_347_874_040_841),
            (3.0, 3.090_232_306_167_813_5),
            (5.0, 4.264_890_793_922_825),
            (8.0, 5.612_001_244_174_789),
            (12.0, 7.034_483_825_301_132),
            (16.0, 8.222_082_216_130_435),
            (30.0, 11.464_024_688_443_616),
            (100.0, 21.273_453_560_965_324),
            (300.0, 37.047_096_299_361_2),
            (0.5, 0.478_273_532_376_162_67),
            (0.1, -0.821_531_602_883_092_1),
        ];
        for (exponent, expected) in exact {
            assert_near(point(exponent), expected, 4e-15);
        }
        assert!(point(2.0_f64.log10()).abs() < 1e-15);
    }

    #[test]
    fn every_exponent_comes_back_from_its_point() {
        let mut exponent = 1e-12;
        while exponent < 1e12 {
            assert_near(-ln_tail(point(exponent)) / LN_10, exponent, 1e-13);
            exponent *= 1.07;
        }
    }

    #[test]
    fn the_ends_of_the_scale_do_no_harm() {
        assert!(point(f64::MIN_POSITIVE).is_finite());
        assert!(point(f64::from_bits(1)) < -30.0);
        assert!(point(1e300).is_finite());
        assert!(point(f64::MAX) > 1e150);
        for nonsense in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert!(point(nonsense).is_nan(), "{nonsense}");
        }
        assert!(ln_tail(f64::INFINITY).is_infinite());
        assert!(ln_tail(1e200).is_infinite());
        assert!(ln_tail(f64::NEG_INFINITY).abs() < f64::MIN_POSITIVE);
    }
}
