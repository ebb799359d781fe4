//! Numbers and words of the tables.

use std::fs;

/// A ratio with as many digits as it deserves.
#[must_use]
pub fn shown_ratio(ratio: Option<f64>) -> String {
    match ratio {
        None => "-".to_owned(),
        Some(ratio) if ratio >= 99.95 => format!("{ratio:.0}"),
        Some(ratio) if ratio >= 9.995 => format!("{ratio:.1}"),
        Some(ratio) => format!("{ratio:.2}"),
    }
}

/// `word`, in the plural if there are several.
#[must_use]
pub fn plural(count: usize, word: &str) -> String {
    format!("{word}{}", if count == 1 { "" } else { "s" })
}

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut out = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !out.is_empty() {
            out.push(',');
        }
        out.extend(group.iter().copied().map(char::from));
    }
    out
}

/// What this ran on, in a line.
#[must_use]
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor", |(_, model)| model.trim());
    format!("{cores} {} of {model}.", plural(cores, "core"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let numbers = [0, 999, 1_000, 20_000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "20,000", "1,234,567"]);
        let ratios = [Some(0.123), Some(12.34), Some(1_234.5), None].map(shown_ratio);
        assert_eq!(ratios, ["0.12", "12.3", "1234", "-"]);
    }
}
