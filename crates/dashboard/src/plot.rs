//! Plots as SVG: counts over time, stacked, and bars of parts.
//!
//! Colours are classes (`c-ok`), so that they follow the colour scheme, and nothing in here is an inline style, which
//! the content security policy would refuse. Text is HTML around the SVG: it is neither stretched nor shrunk.

use maud::{Markup, html};
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use crate::view::{self, number};

/// Width and height in user units; the browser stretches them.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 160.0;

/// One band of a stacked plot.
pub(crate) struct Series {
    pub(crate) name: String,
    /// A colour of the style sheet, such as `ok`.
    pub(crate) class: String,
    /// One count for each time.
    pub(crate) counts: Vec<i64>,
}

/// Counts over time, stacked from the first series up, with the last counts as a legend.
///
/// `times` ascend; with fewer than two there is nothing to plot, and the legend stands alone.
pub(crate) fn stacked(label: &str, times: &[OffsetDateTime], series: &[Series]) -> Markup {
    let top = (0..times.len()).map(|at| total(series, at)).max().unwrap_or(0);
    let shown = series.iter().filter(|series| series.counts.iter().any(|count| *count > 0));
    html! {
        figure.plot {
            figcaption { (label) }
            div.plot-body {
                @if times.len() >= 2 && top > 0 {
                    p.plot-top aria-hidden="true" { (number(top)) }
                    svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img"
                        aria-label=(describe(label, times, series)) {
                        @for quarter in 1..4u8 {
                            @let y = HEIGHT * f64::from(quarter) / 4.0;
                            line.grid x1="0" x2=(WIDTH) y1=(y) y2=(y) {}
                        }
                        @for (index, band) in series.iter().enumerate() {
                            @if band.counts.iter().any(|count| *count > 0) {
                                path class={ "c-" (band.class) } d=(area(times, &series[..=index], top)) {}
                            }
                        }
                    }
                    p.plot-times aria-hidden="true" {
                        @if let (Some(first), Some(last)) = (times.first(), times.last()) {
                            (axis_label(*first, times))
                            (axis_label(*last, times))
                        }
                    }
                } @else {
                    p.plot-none { "Samples come as time goes by." }
                }
            }
            ul.legend {
                @for series in shown {
                    li {
                        svg viewBox="0 0 10 10" width="10" height="10" aria-hidden="true" {
                            rect class={ "c-" (series.class) } width="10" height="10" rx="2" {}
                        }
                        span { (series.name) }
                        span.n { (number(series.counts.last().copied().unwrap_or(0))) }
                    }
                }
            }
        }
    }
}

/// One bar, divided by its parts: class, count. `whole` is its length; parts beyond it are cut.
pub(crate) fn bar<N: Copy + Into<i128>>(label: &str, parts: &[(&str, N)], whole: N) -> Markup {
    let whole = whole.into().max(1);
    let mut end = 0;
    let parts = parts.iter().map(|(class, count)| (class, (*count).into()));
    let bands = parts.filter(|(_, count)| *count > 0).map(|(class, count)| {
        let x = share(end, whole);
        end += count;
        (class, x, share(end, whole) - x)
    });
    html! {
        svg.partbar viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(label) {
            rect.rest width="100" height="8" {}
            @for (class, x, width) in bands {
                rect class={ "c-" (class) } x=(x) width=(width) height="8" {}
            }
        }
    }
}

/// Of a bar of 100 units, rounded to what one could see.
fn share(count: i128, whole: i128) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of devices are far below 2^52")]
    let share = 100.0 * count.clamp(0, whole) as f64 / whole as f64;
    (share * 100.0).round() / 100.0
}

fn total(series: &[Series], at: usize) -> i64 {
    series.iter().filter_map(|series| series.counts.get(at)).sum()
}

/// The outline of the last of `below`: along its top from left to right, and back along its bottom.
fn area(times: &[OffsetDateTime], below: &[Series], top: i64) -> String {
    let under = below.split_last().map_or(&[][..], |(_, under)| under);
    let points = |series: &[Series]| -> Vec<String> {
        times
            .iter()
            .enumerate()
            .map(|(at, time)| format!("{:.1} {:.1}", x(times, *time), y(total(series, at), top)))
            .collect()
    };
    let mut back = points(under);
    back.reverse();
    format!("M{}L{}Z", points(below).join("L"), back.join("L"))
}

#[expect(clippy::cast_precision_loss, reason = "a pixel is no nanosecond")]
fn x(times: &[OffsetDateTime], time: OffsetDateTime) -> f64 {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return 0.0 };
    let span = (*last - *first).whole_milliseconds().max(1) as f64;
    (time - *first).whole_milliseconds() as f64 / span * WIDTH
}

#[expect(clippy::cast_precision_loss, reason = "counts of devices are far below 2^52")]
fn y(count: i64, top: i64) -> f64 {
    HEIGHT - count as f64 / top as f64 * HEIGHT
}

fn axis_label(time: OffsetDateTime, times: &[OffsetDateTime]) -> Markup {
    let class = if is_short(times) { "clock" } else { "day" };
    view::time_as(class, time, &axis_time(time, times))
}

/// To the second where the plot is of minutes.
fn axis_time(time: OffsetDateTime, times: &[OffsetDateTime]) -> String {
    let format = if is_short(times) {
        format_description!("[hour]:[minute]:[second]")
    } else {
        format_description!("[day] [month repr:short] [hour]:[minute]")
    };
    time.format(format).unwrap_or_default()
}

fn is_short(times: &[OffsetDateTime]) -> bool {
    times.first().zip(times.last()).map_or(Duration::ZERO, |(first, last)| *last - *first) < Duration::HOUR
}

/// For whoever does not see the plot.
fn describe(label: &str, times: &[OffsetDateTime], series: &[Series]) -> String {
    let from = times.first().map(|time| axis_time(*time, times)).unwrap_or_default();
    let part = |series: &Series| {
        let ends =
            series.counts.first().zip(series.counts.last()).filter(|_| series.counts.iter().any(|c| *c > 0));
        ends.map(|(first, last)| format!("{} from {first} to {last}", series.name))
    };
    let parts = series.iter().filter_map(part).collect::<Vec<_>>().join(", ");
    format!("{label} since {from} UTC: {parts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, counts: [i64; 3]) -> Series {
        Series { name: name.to_owned(), class: "ok".to_owned(), counts: counts.to_vec() }
    }

    #[test]
    fn bands_stand_on_each_other() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let times = [start, start + Duration::HOUR, start + Duration::hours(2)];
        let plot =
            stacked("By health", &times, &[series("ok", [4, 2, 0]), series("new", [0, 2, 4])]).into_string();
        assert!(
            plot.contains("M0.0 0.0L300.0 80.0L600.0 160.0L600.0 160.0L300.0 160.0L0.0 160.0Z"),
            "{plot}"
        );
        assert!(plot.contains("M0.0 0.0L300.0 0.0L600.0 0.0L600.0 160.0L300.0 80.0L0.0 0.0Z"), "{plot}");
        assert!(plot.contains("By health since 01 Jan 00:00 UTC: ok from 4 to 0, new from 0 to 4"), "{plot}");
        assert!(!plot.contains("style="));
    }

    #[test]
    fn one_sample_is_no_plot() {
        let plot = stacked("By health", &[OffsetDateTime::UNIX_EPOCH], &[]).into_string();
        assert!(plot.contains("Samples come as time goes by"));
    }

    #[test]
    fn a_bar_never_leaves_its_frame() {
        let bar = bar("parts", &[("ok", 30), ("bad", 90)], 100).into_string();
        assert!(bar.contains(r#"x="0" width="30""#), "{bar}");
        assert!(bar.contains(r#"x="30" width="70""#), "{bar}");
    }
}
