//! Figures, printed for a person: a few digits that tell them apart, and the unit that suits them.

use crate::spread::Spread;

/// Formats seconds to three digits.
#[must_use]
pub fn time(seconds: f64) -> String {
    let (factor, unit) = unit(seconds);
    let value = seconds * factor;
    format!("{value:.0$} {unit}", decimals(value))
}

/// Formats repeated times as `median (least..greatest)`, all in the unit of the median; or the one there is.
#[must_use]
pub fn times(spread: &Spread) -> String {
    let (factor, unit) = unit(spread.median);
    let decimals = decimals(spread.median * factor);
    let show = |seconds: f64| format!("{:.decimals$}", seconds * factor);
    match spread.n {
        1 => format!("{} {unit}", show(spread.median)),
        _ => format!("{} {unit} ({}..{})", show(spread.median), show(spread.min), show(spread.max)),
    }
}

/// Formats a share as a percentage, with more digits if it is nearly all.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.1$} %", share * 100.0, percent_decimals(share))
}

/// Formats repeated shares as `median (least..greatest)`; or the one there is.
#[must_use]
pub fn percents(spread: &Spread) -> String {
    let decimals = percent_decimals(spread.median);
    let show = |share: f64| format!("{:.decimals$}", share * 100.0);
    match spread.n {
        1 => format!("{} %", show(spread.median)),
        _ => format!("{} % ({}..{})", show(spread.median), show(spread.min), show(spread.max)),
    }
}

/// Formats a count, its digits grouped by three.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Returns the unit that suits so many seconds, and how many of it a second has.
fn unit(seconds: f64) -> (f64, &'static str) {
    match seconds {
        s if s < 0.999_5e-6 => (1e9, "ns"),
        s if s < 0.999_5e-3 => (1e6, "µs"),
        s if s < 0.999_5 => (1e3, "ms"),
        s if s < 119.5 => (1.0, "s"),
        s if s < 7170.0 => (1.0 / 60.0, "min"),
        _ => (1.0 / 3600.0, "h"),
    }
}

fn decimals(value: f64) -> usize {
    match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    }
}

/// A share that is nearly all is printed so that it is not mistaken for all.
fn percent_decimals(share: f64) -> usize {
    match (1.0 - share) * 100.0 {
        rest if rest <= 0.0 || rest > 1.0 => 1,
        rest if rest >= 0.001 => 3,
        rest if rest >= 0.000_05 => 4,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_fitting_unit() {
        for (seconds, text) in [
            (0.0, "0.00 ns"),
            (83.4e-9, "83.4 ns"),
            (1.234e-6, "1.23 µs"),
            (0.9999e-6, "1.00 µs"),
            (37.21e-3, "37.2 ms"),
            (0.123_4, "123 ms"),
            (11.25, "11.2 s"),
            (300.0, "5.00 min"),
            (7200.0, "2.00 h"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn a_spread_is_in_the_unit_of_its_median_and_one_measurement_has_none() {
        let spread = Spread::of([0.0375, 0.0371, 1.25]).expect("there are three");
        assert_eq!(times(&spread), "37.5 ms (37.1..1250.0)");
        assert_eq!(times(&Spread::of([0.0375]).expect("there is one")), "37.5 ms");
        assert_eq!(percents(&Spread::of([0.66, 0.67, 0.64]).expect("there are three")), "66.0 % (64.0..67.0)");
        assert_eq!(percents(&Spread::of([0.66]).expect("there is one")), "66.0 %");
    }

    #[test]
    fn shares_near_all_keep_what_tells_them_apart() {
        assert_eq!(percent(0.664_2), "66.4 %");
        assert_eq!(percent(0.999_973), "99.997 %");
        assert_eq!(percent(0.999_995_5), "99.9995 %");
        assert_eq!(percent(0.999_999_99), "99.999999 %");
        assert_eq!(percent(1.0), "100.0 %");
        assert_eq!(percent(-0.05), "-5.0 %");
    }

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(95_607), "95,607");
        assert_eq!(thousands(5_000_000), "5,000,000");
    }
}
