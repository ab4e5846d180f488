//! What an audit of local hits found.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The quantile of the normal distribution that 95 % lie below.
const ONE_SIDED_95: f64 = 1.644_853_626_951_472_2;

/// Counters of the auditor, which reads a sample of local hits again from the backend.
///
/// Every hit that was sampled is confirmed, a violation, inconclusive, or still looked into. Audits count nowhere else:
/// neither as reads of the backend nor as hits or misses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditStats {
    /// Whether there is an auditor.
    pub enabled: bool,
    /// Hits that were sampled.
    pub sampled: u64,
    /// Sampled hits on copies that were what the backend held afterwards.
    pub confirmed: u64,
    /// Sampled hits of which nothing can be said: the copy differed and went within the bound, or it may have expired
    /// in the backend, or the backend could not be read.
    pub inconclusive: u64,
    /// Sampled hits on copies that were proved to be overwritten, and were still served after the staleness bound. Each
    /// copy counts once: it is removed then, and other samples of it are inconclusive. Always 0 as long as the backend
    /// reports every change and every rule of the protocol holds.
    pub violations: u64,
}

impl AuditStats {
    /// Returns of how many sampled hits something is known.
    #[must_use]
    pub fn conclusive(&self) -> u64 {
        self.confirmed.saturating_add(self.violations)
    }

    /// Returns the share of hits outside the bound that is not exceeded with a confidence of 95 %, between 0 and 1; 1
    /// where nothing is known.
    ///
    /// With `v` violations in `n` conclusive samples it is `u / n`, where `u` is the upper limit for the mean of a
    /// Poisson distribution that `v` was drawn from, at 95 % on one side. Without violations `u` is 3: the rule of
    /// three. Else it is Wilson and Hilferty's approximation of χ²₀.₉₅(2v + 2) / 2, which is off by less than 1 %: 4.7
    /// for one violation, 6.3 for two, 17 for ten.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    pub fn share_outside_at_most(&self) -> f64 {
        let most = match self.violations {
            0 => 3.0,
            violations => {
                let degrees = violations as f64 + 1.0;
                let root = 1.0 - 1.0 / (9.0 * degrees) + ONE_SIDED_95 / (3.0 * degrees.sqrt());
                degrees * root.powi(3)
            }
        };
        match self.conclusive() {
            0 => 1.0,
            conclusive => (most / conclusive as f64).min(1.0),
        }
    }

    /// Returns how many nines of hits are within the staleness bound, at least, with a confidence of 95 %: 3 is 99.9 %.
    ///
    /// It is `-log10` of [`share_outside_at_most`](Self::share_outside_at_most), so `log10(n / 3)` for `n` conclusive
    /// samples without a violation: 300 samples can show two nines, 3000 three, and no number of them a proof. It
    /// starts at 0, grows as samples come in, and falls with each violation.
    ///
    /// ```
    /// # use twotier_core as twotier;
    /// use twotier::AuditStats;
    ///
    /// let mut audit = AuditStats::default();
    /// assert_eq!(audit.nines(), 0.0);
    /// audit.confirmed = 30_000;
    /// assert!((audit.nines() - 4.0).abs() < 1e-9);
    /// audit.violations = 1;
    /// assert!(audit.nines() < 3.81);
    /// ```
    #[must_use]
    pub fn nines(&self) -> f64 {
        // Not below zero, and not minus zero either.
        (-self.share_outside_at_most().log10()).max(0.0) + 0.0
    }
}

impl fmt::Display for AuditStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.enabled {
            return f.write_str("audit      off");
        }
        write!(
            f,
            "audit      {} hits sampled: {} confirmed, {} inconclusive, {} violations; at least {:.1} nines within the \
             bound",
            self.sampled,
            self.confirmed,
            self.inconclusive,
            self.violations,
            self.nines(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(confirmed: u64, violations: u64) -> AuditStats {
        AuditStats { enabled: true, sampled: 0, confirmed, violations, inconclusive: 0 }
    }

    #[test]
    fn the_upper_limits_are_those_of_the_tables_to_one_percent() {
        // Exact one-sided limits at 95 % for a Poisson mean, by the quantiles of chi square.
        for (violations, exact) in [(0, 2.996), (1, 4.744), (2, 6.296), (3, 7.754), (10, 16.962), (100, 118.079)] {
            let conclusive = 1_000_000;
            let most = audit(conclusive - violations, violations).share_outside_at_most() * conclusive as f64;
            assert!((most / exact - 1.0).abs() < 0.01, "{violations}: {most}");
        }
    }

    #[test]
    fn nines_start_at_zero_grow_with_samples_and_fall_with_each_violation() {
        assert!(audit(0, 0).nines().abs() < f64::EPSILON && audit(0, 0).nines().is_sign_positive());
        assert!(audit(2, 0).nines().abs() < f64::EPSILON, "three are needed to say anything");
        assert!((audit(3000, 0).nines() - 3.0).abs() < 1e-9);
        let mut last = f64::INFINITY;
        for violations in 0..50 {
            let nines = audit(10_000, violations).nines();
            assert!(nines < last, "{violations}");
            last = nines;
        }
        assert!(audit(0, 5).nines().abs() < f64::EPSILON);
        assert!(audit(u64::MAX, u64::MAX).nines().is_finite());
    }
}
