//! Charts of lines and of bars, drawn with `plotters` into an SVG.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The size of a plot in pixels.
const SIZE: (u32, u32) = (960, 560);

/// The width of the strip at the right that has the names.
const NAMES: u32 = 170;

/// How far below the top the first name stands, and each one below the other.
const NAME_STEP: i32 = 26;

/// The font of everything; whatever the viewer has.
const FONT: &str = "sans-serif";

/// The color of what is not data.
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);

/// One line.
pub(super) struct Series {
    /// What it is called.
    pub(super) name: String,
    /// Its color.
    pub(super) color: (u8, u8, u8),
    /// Whether it is drawn thicker and above the others.
    pub(super) is_ours: bool,
    /// Its points, from left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// An axis. Values are mapped to a line by `place`, and ticks are written by `label`.
pub(super) struct Axis {
    /// What it shows, unit included.
    title: &'static str,
    /// Where ticks are, if that is given.
    ticks: Option<Vec<f64>>,
    /// The first and last value, if they are given; those of the data otherwise.
    range: Option<Range<f64>>,
    /// Whether places are logarithms.
    is_log: bool,
    /// What is written at a tick.
    label: Box<dyn Fn(f64) -> String>,
}

impl Axis {
    /// A logarithmic axis as long as the data, with ticks at 1, 2, 5, 10 and so on.
    pub(super) fn log(title: &'static str, label: impl Fn(f64) -> String + 'static) -> Self {
        Axis {
            title,
            ticks: None,
            range: None,
            is_log: true,
            label: Box::new(label),
        }
    }

    /// A logarithmic axis with ticks at `ticks` and nowhere else.
    pub(super) fn at(
        title: &'static str,
        ticks: Vec<f64>,
        label: impl Fn(f64) -> String + 'static,
    ) -> Self {
        Axis {
            ticks: Some(ticks),
            ..Axis::log(title, label)
        }
    }

    /// An axis with even steps over `range`.
    pub(super) fn linear(
        title: &'static str,
        range: Range<f64>,
        label: impl Fn(f64) -> String + 'static,
    ) -> Self {
        Axis {
            range: Some(range),
            is_log: false,
            ..Axis::log(title, label)
        }
    }

    /// An axis of `count` things that are no numbers.
    pub(super) fn steps(
        title: &'static str,
        count: usize,
        label: impl Fn(usize) -> String + 'static,
    ) -> Self {
        #[expect(clippy::cast_sign_loss, reason = "steps are counted from zero")]
        let label = move |step: f64| label(step.round() as usize);
        Axis {
            ticks: Some((0..count).map(|step| step as f64).collect()),
            is_log: false,
            ..Axis::log(title, label)
        }
    }

    /// Where `value` is on the line.
    fn place(&self, value: f64) -> f64 {
        if self.is_log { value.log10() } else { value }
    }

    /// The value at `place`.
    fn value(&self, place: f64) -> f64 {
        if self.is_log {
            10f64.powf(place)
        } else {
            place
        }
    }

    /// The places from which to which the axis goes, so that `values` do not touch its ends.
    fn span(&self, values: impl Iterator<Item = f64>) -> Range<f64> {
        if let Some(range) = &self.range {
            return self.place(range.start)..self.place(range.end);
        }
        let places = values.map(|value| self.place(value));
        let (low, high) = places.fold((f64::MAX, f64::MIN), |(low, high), place| {
            (low.min(place), high.max(place))
        });
        let margin = ((high - low) * 0.06).max(0.05);
        low - margin..high + margin
    }

    /// The places of the ticks within `span`.
    fn tick_places(&self, span: &Range<f64>) -> Vec<f64> {
        let ticks = match &self.ticks {
            Some(ticks) => ticks.clone(),
            None if self.is_log => {
                // Over many decades, the powers of ten alone; 2 and 5 would not find room.
                let parts: &[f64] = if span.end - span.start > 3.5 {
                    &[1.0]
                } else {
                    &[1.0, 2.0, 5.0]
                };
                (-9..12)
                    .flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)))
                    .collect()
            }
            None => {
                let step = even_step((span.end - span.start) / 8.0);
                let first = (span.start / step).ceil();
                (0..20).map(|i| (first + f64::from(i)) * step).collect()
            }
        };
        let places = ticks.into_iter().map(|tick| self.place(tick));
        places
            .filter(|place| (span.start - 1e-9..=span.end + 1e-9).contains(place))
            .collect()
    }
}

/// An axis as `plotters` wants it: places, and those of the ticks.
struct Line {
    /// From where to where.
    span: Range<f64>,
    /// Where ticks are.
    ticks: Vec<f64>,
}

impl Ranged for Line {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.span.start) / (self.span.end - self.span.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Called once for the lines with labels and once for those without, which are left out.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.span.clone()
    }
}

/// The smallest of 1, 2, 5, 10 and so on that is no less than `step`.
fn even_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|part| part * power);
    steps
        .into_iter()
        .find(|even| *even >= step * 0.999)
        .unwrap_or(power * 10.0)
}

/// A chart of lines.
pub(super) struct Chart {
    /// What stands above it.
    pub(super) title: String,
    /// From left to right.
    pub(super) x: Axis,
    /// From below to above.
    pub(super) y: Axis,
    /// The lines.
    pub(super) series: Vec<Series>,
}

impl Chart {
    /// Draws it into `path`.
    pub(super) fn draw(mut self, path: &Path) -> Result<(), Box<dyn Error>> {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(SIZE.0 - NAMES);
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let x = self.x.span(points().map(|(x, _)| *x));
        let y = self.y.span(points().map(|(_, y)| *y));
        let line = |axis: &Axis, span: Range<f64>| Line {
            ticks: axis.tick_places(&span),
            span,
        };
        let mut chart = ChartBuilder::on(&left)
            .caption(&self.title, (FONT, 22, &INK))
            .margin(12)
            .x_label_area_size(52)
            .y_label_area_size(70)
            .build_cartesian_2d(line(&self.x, x), line(&self.y, y))?;
        chart
            .configure_mesh()
            .x_desc(self.x.title)
            .y_desc(self.y.title)
            .x_label_formatter(&|place| (self.x.label)(self.x.value(*place)))
            .y_label_formatter(&|place| (self.y.label)(self.y.value(*place)))
            .label_style((FONT, 15, &INK))
            .axis_desc_style((FONT, 16, &INK))
            .axis_style(INK)
            .bold_line_style(BLACK.mix(0.12))
            .light_line_style(TRANSPARENT)
            .draw()?;
        // Ours is drawn last, above the others.
        self.series.sort_by_key(|series| series.is_ours);
        for series in &self.series {
            let style = style(series);
            let places = |(x, y): &(f64, f64)| (self.x.place(*x), self.y.place(*y));
            let places: Vec<(f64, f64)> = series.points.iter().map(places).collect();
            chart.draw_series(LineSeries::new(places.iter().copied(), style))?;
            let dots = places
                .iter()
                .map(|place| Circle::new(*place, 4, style.filled()));
            chart.draw_series(dots)?;
        }
        // The names stand in the order in which the lines end.
        self.series.sort_by(|a, b| last(b).total_cmp(&last(a)));
        names(&right, &self.series)?;
        root.present()?;
        Ok(())
    }
}

/// How a line is drawn.
fn style(series: &Series) -> ShapeStyle {
    let (red, green, blue) = series.color;
    RGBColor(red, green, blue).stroke_width(if series.is_ours { 4 } else { 2 })
}

/// Where a line ends; one that ends at the top for all, such as a share, further left is higher.
fn last(series: &Series) -> f64 {
    series.points.last().map_or(0.0, |(x, y)| y - x * 1e-9)
}

/// Names and colors of the lines, one below the other.
fn names(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    series: &[Series],
) -> Result<(), Box<dyn Error>> {
    for (y, series) in (70..).step_by(NAME_STEP as usize).zip(series) {
        let line = [(0, y), (26, y)];
        area.draw(&PathElement::new(line, style(series)))?;
        area.draw(&Circle::new((13, y), 4, style(series).filled()))?;
        let middle = Pos::new(HPos::Left, VPos::Center);
        let name = (FONT, 16).with_color(INK).into_text_style(area).pos(middle);
        area.draw(&Text::new(series.name.clone(), (34, y), name))?;
    }
    Ok(())
}

/// One bar.
pub(super) struct Bar {
    /// What it is called.
    pub(super) name: String,
    /// Its color.
    pub(super) color: (u8, u8, u8),
    /// Its length.
    pub(super) value: f64,
}

/// Draws `bars` one below the other into `path`, each with its name before and its value behind it.
pub(super) fn bars(
    path: &Path,
    title: &str,
    axis: &str,
    bars: &[Bar],
) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max) * 1.12;
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 22, &INK))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(52)
        .y_label_area_size(140)
        .build_cartesian_2d(0.0..most, 0.0..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(axis)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .label_style((FONT, 15, &INK))
        .axis_desc_style((FONT, 16, &INK))
        .axis_style(INK)
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (bar, row) in bars.iter().zip((0..bars.len()).rev()) {
        let (row, (red, green, blue)) = (row as f64, bar.color);
        let fill = RGBColor(red, green, blue).filled();
        let corners = [(0.0, row + 0.2), (bar.value, row + 0.8)];
        chart.draw_series([Rectangle::new(corners, fill)])?;
        let middle = |x: f64| chart.backend_coord(&(x, row + 0.5));
        let (left, right) = (middle(0.0), middle(bar.value));
        let name = (FONT, 16, &INK)
            .into_text_style(&root)
            .pos(Pos::new(HPos::Right, VPos::Center));
        root.draw(&Text::new(bar.name.clone(), (left.0 - 8, left.1), name))?;
        let value = (FONT, 16, &INK)
            .into_text_style(&root)
            .pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(
            format!("{:.0}", bar.value),
            (right.0 + 8, right.1),
            value,
        ))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_even() {
        let steps = [0.3, 1.0, 1.2, 4.0, 7.0, 12.0].map(|step| even_step(step).to_string());
        assert_eq!(steps, ["0.5", "1", "2", "5", "10", "20"]);
    }

    #[test]
    fn ticks_lie_within_the_axis() {
        let axis = Axis::log("", |value| value.to_string());
        let ticks = axis.tick_places(&axis.span([0.9, 12.0].into_iter()));
        let values: Vec<f64> = ticks
            .iter()
            .map(|place| axis.value(*place).round())
            .collect();
        assert_eq!(values, [1.0, 2.0, 5.0, 10.0]);
    }
}
