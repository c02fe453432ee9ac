//! Rows of one scrape, gathered by family.

use std::collections::HashMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::catalogue::{Family, Kind};
use super::histogram::Buckets;

/// What one scrape shows.
#[derive(Default)]
pub(super) struct Page {
    rows: HashMap<&'static str, (Family, Vec<Metric>)>,
}

impl Page {
    pub(super) fn families(self) -> Vec<MetricFamily> {
        let family = |(family, rows): (Family, Vec<Metric>)| {
            let mut shown = MetricFamily::default();
            shown.set_name(family.name.to_owned());
            shown.set_help(family.help.to_owned());
            shown.set_field_type(match family.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            shown.set_metric(rows);
            shown
        };
        self.rows.into_values().map(family).collect()
    }

    fn row(&mut self, family: &Family, labels: &[&str], fill: impl FnOnce(&mut Metric)) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut metric = Metric::from_label(pairs.collect());
        fill(&mut metric);
        let (_, rows) = self
            .rows
            .entry(family.name)
            .or_insert((*family, Vec::new()));
        rows.push(metric);
    }

    /// One value of a gauge or counter.
    pub(super) fn set(&mut self, family: &Family, labels: &[&str], value: impl Into<Value>) {
        let Value(value) = value.into();
        self.row(family, labels, |metric| match family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                debug_assert_eq!(family.kind, Kind::Gauge, "{}", family.name);
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        });
    }

    pub(super) fn buckets(&mut self, family: &Family, labels: &[&str], buckets: &Buckets) {
        debug_assert_eq!(family.kind, Kind::Histogram, "{}", family.name);
        let mut below = 0_u64;
        let mut shown = Vec::with_capacity(buckets.bounds.len());
        for (bound, count) in buckets.bounds.iter().zip(&buckets.counts) {
            below = below.saturating_add(*count);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(seconds(*bound));
            bucket.set_cumulative_count(below);
            shown.push(bucket);
        }
        let above = buckets.counts.last().copied().unwrap_or(0);
        let mut histogram = Histogram::default();
        histogram.set_bucket(shown);
        histogram.set_sample_count(below.saturating_add(above));
        histogram.set_sample_sum(seconds(buckets.sum));
        self.row(family, labels, |metric| metric.set_histogram(histogram));
    }
}

/// A value of any of the types that are counted in.
pub(super) struct Value(f64);

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self(if value { 1.0 } else { 0.0 })
    }
}

impl From<u64> for Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the exposition knows nothing but doubles"
    )]
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

fn seconds(micros: u64) -> f64 {
    let Value(micros) = micros.into();
    micros / 1e6
}
