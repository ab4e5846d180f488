//! The epochs that ended because their link was lost, and how long their word was good.

use std::collections::VecDeque;

use twotier_core::{LinkId, Timestamp};

/// How many are remembered, those of all links together. A copy of an earlier one is as good as none.
const REMEMBERED: usize = 64;

/// An epoch that ended with its link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) link: LinkId,
    pub(crate) epoch: u64,
    /// Every change acknowledged before it was reported in that epoch.
    pub(crate) proof: Timestamp,
}

/// The last epochs that ended with their links, the newest at the back.
#[derive(Debug, Default)]
pub(crate) struct LostEpochs(VecDeque<Lost>);

impl LostEpochs {
    pub(crate) fn add(&mut self, lost: Lost) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(lost);
    }

    /// Returns the last proof of life of an epoch, if it ended with its link and nothing has been flushed since.
    pub(crate) fn proof(&self, link: LinkId, epoch: u64) -> Option<Timestamp> {
        self.0.iter().rev().find(|lost| lost.link == link && lost.epoch == epoch).map(|lost| lost.proof)
    }

    /// Everything that came over a link may have changed.
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.0.retain(|lost| lost.link != link);
    }

    pub(crate) fn forget_all(&mut self) {
        self.0.clear();
    }
}
