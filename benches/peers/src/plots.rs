//! The plots: what was measured, as SVGs.

mod chart;

use std::error::Error;
use std::path::{Path, PathBuf};

use self::chart::{Axis, Bar, Chart, Series, bars};
use crate::candidates::Kind;
use crate::job::{Metric, Scenario};
use crate::report::grouped;
use crate::rows::Row;

/// Draws all plots for which there are rows into `folder`, and returns where they are.
pub(crate) fn draw(rows: &[Row], folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut drawn = Vec::new();
    for (name, plot) in [
        ("throughput.svg", throughput as Plot),
        ("lateness.svg", lateness),
        ("mass_expiry.svg", mass_expiry),
        ("memory.svg", memory),
        ("scale.svg", scale),
        ("scale_expiry.svg", scale_expiry),
    ] {
        let path = folder.join(name);
        if plot(rows, &path)? {
            drawn.push(path);
        }
    }
    Ok(drawn)
}

/// Draws one plot; returns whether there was anything to draw.
type Plot = fn(&[Row], &Path) -> Result<bool, Box<dyn Error>>;

/// The rows of `scenario`, with the number of threads that its first row has.
fn of(rows: &[Row], scenario: Scenario) -> Vec<&Row> {
    let mut of: Vec<&Row> = rows.iter().filter(|row| row.scenario == scenario).collect();
    if let Some(first) = of.first().map(|row| (row.producers, row.workers)) {
        of.retain(|row| (row.producers, row.workers) == first);
    }
    of
}

/// As [`of`], with the largest number of keys there is.
fn of_largest(rows: &[Row], scenario: Scenario) -> (Vec<&Row>, usize) {
    let mut of = of(rows, scenario);
    let largest = of.iter().map(|row| row.keys).max().unwrap_or(0);
    of.retain(|row| row.keys == largest);
    (of, largest)
}

/// A line for each candidate in `rows`, through the points that `point` makes of its rows.
fn series(rows: &[&Row], point: impl Fn(&Row) -> Option<(f64, f64)>) -> Vec<Series> {
    let mut candidates: Vec<Kind> = rows.iter().map(|row| row.candidate).collect();
    candidates.sort_unstable();
    candidates.dedup();
    candidates
        .into_iter()
        .map(|candidate| {
            let its = rows.iter().filter(|row| row.candidate == candidate);
            let mut points: Vec<_> = its.filter_map(|row| point(row)).collect();
            points.sort_unstable_by(|(x, _), (y, _)| x.total_cmp(y));
            Series {
                name: candidate.name().to_owned(),
                color: color(candidate),
                is_ours: candidate == Kind::Liveness,
                points,
            }
        })
        .filter(|series| !series.points.is_empty())
        .collect()
}

/// A color for each candidate, the same in all plots. Ours is the one that stands out; floors are grey.
fn color(candidate: Kind) -> (u8, u8, u8) {
    match candidate {
        Kind::Liveness => (0xD0, 0x1C, 0x1F),
        Kind::LivenessTsc => (0xFF, 0x7F, 0x50),
        Kind::Moka => (0x1F, 0x77, 0xB4),
        Kind::DelayQueue => (0x2C, 0xA0, 0x2C),
        Kind::DelayQueueLazy => (0x98, 0xC2, 0x3A),
        Kind::HashWheel => (0x94, 0x67, 0xBD),
        Kind::Dashmap => (0xFF, 0x8F, 0x1E),
        Kind::LinkedMap => (0x17, 0xBE, 0xCF),
        Kind::Beatwise => (0x8C, 0x56, 0x4B),
        Kind::Naive => (0xE3, 0x77, 0xC2),
        Kind::FloorClockStore | Kind::FloorChannel | Kind::FloorSleep => (0x88, 0x88, 0x88),
    }
}

/// `2 producers, 2 workers`.
fn threads(row: &Row) -> String {
    format!("{} producers, {} workers", row.producers, row.workers)
}

/// Beats a second over the number of keys.
fn throughput(rows: &[Row], path: &Path) -> Result<bool, Box<dyn Error>> {
    let rows = of(rows, Scenario::Beat);
    let Some(first) = rows.first() else {
        return Ok(false);
    };
    let mut keys: Vec<f64> = rows.iter().map(|row| row.keys as f64).collect();
    keys.sort_unstable_by(f64::total_cmp);
    keys.dedup();
    let chart = Chart {
        title: format!("beat, {}: higher is better", threads(first)),
        x: Axis::at("keys (log scale)", keys, short),
        y: Axis::log("million beats per second (log scale)", plain),
        series: series(&rows, |row| {
            let is_it = row.metric == Metric::BeatsPerS;
            is_it.then_some((row.keys as f64, row.value / 1e6))
        }),
    };
    chart.draw(path)?;
    Ok(true)
}

/// The lateness that a fraction of all reports do not exceed.
fn lateness(rows: &[Row], path: &Path) -> Result<bool, Box<dyn Error>> {
    /// Where on the axis each quantile stands, evenly.
    const QUANTILES: [(Metric, &str); 5] = [
        (Metric::LateP50Ms, "50 %"),
        (Metric::LateP90Ms, "90 %"),
        (Metric::LateP99Ms, "99 %"),
        (Metric::LateP999Ms, "99.9 %"),
        (Metric::MaxLateMs, "all"),
    ];
    let (rows, keys) = of_largest(rows, Scenario::Steady);
    if rows.is_empty() {
        return Ok(false);
    }
    let chart = Chart {
        title: format!("steady, {} keys: lower is better", grouped(keys)),
        x: Axis::steps(
            "so many of the reports came no later than that",
            QUANTILES.len(),
            |step| QUANTILES[step].1.to_owned(),
        ),
        y: Axis::log("milliseconds after the deadline (log scale)", plain),
        series: series(&rows, |row| {
            let step = QUANTILES
                .iter()
                .position(|(metric, _)| *metric == row.metric)?;
            // A microsecond is as little as can be drawn.
            Some((step as f64, row.value.max(1e-3)))
        }),
    };
    chart.draw(path)?;
    Ok(true)
}

/// The fraction of all keys that was reported, over time.
fn mass_expiry(rows: &[Row], path: &Path) -> Result<bool, Box<dyn Error>> {
    let (rows, keys) = of_largest(rows, Scenario::MassExpiry);
    if rows.is_empty() {
        return Ok(false);
    }
    let chart = Chart {
        title: format!(
            "mass_expiry, {} keys: further left is better",
            grouped(keys)
        ),
        x: Axis::log("milliseconds since the first deadline (log scale)", plain),
        y: Axis::linear("reported, % of all keys", 0.0..104.0, |percent| {
            format!("{percent:.0}")
        }),
        series: series(&rows, |row| {
            // A tenth of a millisecond is as little as is worth drawing.
            Some((row.value.max(0.1), row.fraction? * 100.0))
        }),
    };
    chart.draw(path)?;
    Ok(true)
}

/// What a key takes.
fn memory(rows: &[Row], path: &Path) -> Result<bool, Box<dyn Error>> {
    let (rows, keys) = of_largest(rows, Scenario::Memory);
    let of_each = rows.iter().filter(|row| row.metric == Metric::BytesPerKey);
    let mut each: Vec<Bar> = of_each
        .map(|row| Bar {
            name: row.candidate.name().to_owned(),
            color: color(row.candidate),
            value: row.value,
        })
        .collect();
    if each.is_empty() {
        return Ok(false);
    }
    each.sort_unstable_by(|a, b| a.value.total_cmp(&b.value));
    let title = format!(
        "memory, {} keys of 16 bytes: lower is better",
        grouped(keys)
    );
    bars(
        path,
        &title,
        "resident bytes for each key, the key itself included",
        &each,
    )?;
    Ok(true)
}

/// Ours: beats a second over the number of keys, for each number of producers and workers.
fn scale(rows: &[Row], path: &Path) -> Result<bool, Box<dyn Error>> {
    /// From few producers to many.
    const COLORS: [(u8, u8, u8); 3] = [(0x1F, 0x77, 0xB4), (0xD0, 0x1C, 0x1F), (0x2C, 0xA0, 0x2C)];
    let beats = |row: &&Row| row.scenario == Scenario::Scale && row.metric == Metric::BeatsPerS;
    let rows: Vec<&Row> = rows.iter().filter(beats).collect();
    let mut threads: Vec<_> = rows
        .iter()
        .map(|row| (row.producers, row.workers))
        .collect();
    threads.sort_unstable();
    threads.dedup();
    // All of them would be a thicket; the table has them.
    if threads.len() > 3 {
        threads.retain(|(producers, workers)| producers == workers);
    }
    if threads.is_empty() {
        return Ok(false);
    }
    let mut keys: Vec<f64> = rows.iter().map(|row| row.keys as f64).collect();
    keys.sort_unstable_by(f64::total_cmp);
    keys.dedup();
    let lines = threads
        .iter()
        .zip(COLORS.iter().cycle())
        .map(|(threads, color)| {
            let its = rows
                .iter()
                .filter(|row| (row.producers, row.workers) == *threads);
            let mut points: Vec<_> = its.map(|row| (row.keys as f64, row.value / 1e6)).collect();
            points.sort_unstable_by(|(x, _), (y, _)| x.total_cmp(y));
            Series {
                name: format!("{} p, {} w", threads.0, threads.1),
                color: *color,
                is_ours: false,
                points,
            }
        });
    let series: Vec<Series> = lines.collect();
    let values = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|(_, value)| *value);
    let most = values.fold(0.0, f64::max);
    let chart = Chart {
        title: "scale: liveness with p producers, w workers: higher is better".to_owned(),
        x: Axis::at("keys (log scale)", keys, short),
        y: Axis::linear("million beats per second", 0.0..most * 1.1, plain),
        series,
    };
    chart.draw(path)?;
    Ok(true)
}

/// Ours: mass expiry over the number of keys.
fn scale_expiry(rows: &[Row], path: &Path) -> Result<bool, Box<dyn Error>> {
    let rows: Vec<&Row> = of(rows, Scenario::ScaleExpiry);
    let mut keys: Vec<f64> = rows.iter().map(|row| row.keys as f64).collect();
    keys.sort_unstable_by(f64::total_cmp);
    keys.dedup();
    let mut series = series(&rows, |row| {
        let is_it = row.metric == Metric::DrainS;
        is_it.then_some((row.keys as f64, row.value * 1e3))
    });
    let Some(&(least_keys, least)) = series.first().and_then(|series| series.points.first()) else {
        return Ok(false);
    };
    series.push(Series {
        name: "linear".to_owned(),
        color: (0x88, 0x88, 0x88),
        is_ours: false,
        points: keys
            .iter()
            .map(|keys| (*keys, least * keys / least_keys))
            .collect(),
    });
    let chart = Chart {
        title: "scale: mass expiry of liveness, lower is better".to_owned(),
        x: Axis::at("keys that die together (log scale)", keys, |keys| {
            short(keys)
        }),
        y: Axis::log("ms from first deadline to last report (log scale)", plain),
        series,
    };
    chart.draw(path)?;
    Ok(true)
}

/// A number of keys, such as `10 k`.
fn short(keys: f64) -> String {
    match keys {
        keys if keys >= 1e6 => format!("{} M", keys / 1e6),
        keys if keys >= 1e3 => format!("{} k", keys / 1e3),
        keys => keys.to_string(),
    }
}

/// A number without digits that say nothing.
fn plain(value: f64) -> String {
    format!("{}", (value * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_plot_for_each_kind_of_rows() {
        let row = |scenario, candidate, keys, metric, value, fraction| Row {
            scenario,
            candidate,
            keys,
            producers: 2,
            workers: 2,
            metric,
            value,
            ratio_to_ours: None,
            fraction,
        };
        let mut rows = Vec::new();
        for (i, candidate) in Kind::CANDIDATES.into_iter().enumerate() {
            let factor = 1.0 + i as f64;
            for keys in [10_000, 1_000_000] {
                let beats = 20e6 / factor;
                rows.push(row(
                    Scenario::Beat,
                    candidate,
                    keys,
                    Metric::BeatsPerS,
                    beats,
                    None,
                ));
            }
            let late = Metric::LateP50Ms;
            rows.push(row(
                Scenario::Steady,
                candidate,
                1_000,
                late,
                0.1 * factor,
                None,
            ));
            for fraction in [0.0, 0.5, 1.0] {
                let (at, fraction) = (Metric::DeliveredAtMs, Some(fraction));
                rows.push(row(
                    Scenario::MassExpiry,
                    candidate,
                    10,
                    at,
                    10.0 * factor,
                    fraction,
                ));
            }
            let bytes = 60.0 * factor;
            rows.push(row(
                Scenario::Memory,
                candidate,
                10,
                Metric::BytesPerKey,
                bytes,
                None,
            ));
        }
        for keys in [10_000, 100_000] {
            let ours = Kind::Liveness;
            rows.push(row(
                Scenario::Scale,
                ours,
                keys,
                Metric::BeatsPerS,
                9e6,
                None,
            ));
            rows.push(row(
                Scenario::ScaleExpiry,
                ours,
                keys,
                Metric::DrainS,
                0.01,
                None,
            ));
        }
        let folder = std::env::temp_dir().join(format!("peers-plots-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let drawn = draw(&rows, &folder).expect("all of it can be drawn");
        assert_eq!(drawn.len(), 6);
        for path in &drawn {
            let svg = std::fs::read_to_string(path).expect("it was drawn");
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        }
        assert_eq!(draw(&[], &folder).expect("nothing is drawn").len(), 0);
        std::fs::remove_dir_all(&folder).expect("the folder can be removed");
    }
}
