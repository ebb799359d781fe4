//! Metrics while they are collected: each name once, with the samples of all sources, as the text formats ask for.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::stats::Histogram;

/// The upper bounds of the buckets of every histogram, microseconds: from a tenth of a millisecond, which nothing but a
/// bare sleep reaches, to a minute.
const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// The labels of a sample.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// One number, or many of them.
enum Value {
    /// A number that only rises.
    Counter(u64),
    /// A number that rises and falls.
    Gauge(f64),
    /// The sum in seconds, the count, and the values in each bucket, of which the last has no bound.
    Histogram(f64, u64, Vec<(f64, u64)>),
}

/// All samples of one name.
struct Family {
    /// What it means.
    help: &'static str,
    /// The unit, which the encoder appends to the name.
    unit: Option<Unit>,
    /// The samples.
    samples: Vec<(Labels, Value)>,
}

/// Metrics by name.
#[derive(Default)]
pub(crate) struct Families {
    /// The metrics.
    by_name: BTreeMap<&'static str, Family>,
}

impl Families {
    /// Adds a sample.
    fn add(&mut self, name: &'static str, help: &'static str, labels: Labels, value: Value) {
        // The encoder appends `_total` to counters, and units.
        let unit = match name.rsplit('_').next() {
            Some("seconds") => Some(Unit::Seconds),
            Some("bytes") => Some(Unit::Bytes),
            Some("ratio") => Some(Unit::Other("ratio".to_owned())),
            _ => None,
        };
        let name = unit.as_ref().map_or(name, |unit| {
            name.trim_end_matches(unit.as_str()).trim_end_matches('_')
        });
        let family = self.by_name.entry(name).or_insert_with(|| Family {
            help,
            unit,
            samples: Vec::new(),
        });
        family.samples.push((labels, value));
    }

    /// Writes all metrics.
    pub(crate) fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, family) in &self.by_name {
            let Some((_, first)) = family.samples.first() else {
                continue;
            };
            let kind = match first {
                Value::Counter(_) => MetricType::Counter,
                Value::Gauge(_) => MetricType::Gauge,
                Value::Histogram(..) => MetricType::Histogram,
            };
            let unit = family.unit.as_ref();
            let mut metric = encoder.encode_descriptor(name, family.help, unit, kind)?;
            for (labels, value) in &family.samples {
                let mut sample = metric.encode_family(labels)?;
                match value {
                    Value::Counter(count) => ConstCounter::new(*count).encode(sample)?,
                    Value::Gauge(number) => ConstGauge::new(*number).encode(sample)?,
                    Value::Histogram(sum, count, buckets) => {
                        sample.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Adds the samples of one source, which all have its name as their first label.
pub(crate) struct Samples<'a> {
    /// Where to.
    families: &'a mut Families,
    /// The labels of all samples.
    labels: Labels,
}

impl<'a> Samples<'a> {
    /// Adds samples of the source `name`.
    pub(crate) fn new(families: &'a mut Families, name: &str) -> Self {
        Samples {
            families,
            labels: vec![("name", name.to_owned())],
        }
    }

    /// Adds samples that have this label, too.
    pub(crate) fn with(&mut self, label: &'static str, value: &str) -> Samples<'_> {
        let mut labels = self.labels.clone();
        labels.push((label, value.to_owned()));
        Samples {
            families: self.families,
            labels,
        }
    }

    /// Adds a number that only rises.
    pub(crate) fn counter(&mut self, name: &'static str, help: &'static str, count: u64) {
        let value = Value::Counter(count);
        self.families.add(name, help, self.labels.clone(), value);
    }

    /// Adds a number that rises and falls.
    pub(crate) fn gauge(&mut self, name: &'static str, help: &'static str, number: f64) {
        let value = Value::Gauge(number);
        self.families.add(name, help, self.labels.clone(), value);
    }

    /// Adds numbers that only rise, one for each value of `label`.
    pub(crate) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        counts: [(&str, u64); N],
    ) {
        for (value, count) in counts {
            self.with(label, value).counter(name, help, count);
        }
    }

    /// Adds numbers that rise and fall, one for each value of `label`.
    pub(crate) fn gauges<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        counts: [(&str, u64); N],
    ) {
        for (value, count) in counts {
            self.with(label, value).gauge(name, help, count as f64);
        }
    }

    /// Adds a histogram of seconds.
    pub(crate) fn histogram(&mut self, name: &'static str, help: &'static str, times: &Histogram) {
        let (sum, count) = (times.sum().as_secs_f64(), times.count());
        let value = Value::Histogram(sum, count, buckets(times));
        self.families.add(name, help, self.labels.clone(), value);
    }
}

/// Returns the values in each bucket, not cumulative, the last of which has no bound. A narrow bucket of `times` that a
/// bound divides counts above it, so a value is at most 6.25 % larger than it was.
fn buckets(times: &Histogram) -> Vec<(f64, u64)> {
    let mut counts = [0; BOUNDS_US.len() + 1];
    for (upper, count) in times.buckets() {
        let bound = BOUNDS_US.partition_point(|&us| Duration::from_micros(us) < upper);
        counts[bound] += count;
    }
    let bounds = BOUNDS_US
        .iter()
        .map(|&us| Duration::from_micros(us).as_secs_f64());
    bounds.chain([f64::INFINITY]).zip(counts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_of_its_bound() {
        let mut times = Histogram::default();
        for ms in [0, 1, 2, 7, 999, 3_600_000] {
            times.record(ms * 1_000_000);
        }
        let filled: Vec<_> = buckets(&times)
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let expected = [
            (0.0001, 1),
            // The narrow bucket of 1 ms reaches beyond 1 ms.
            (0.0025, 2),
            (0.01, 1),
            (2.5, 1),
            (f64::INFINITY, 1),
        ];
        assert_eq!(filled, expected);
    }
}
