//! A link from the first byte to the proof that changes are reported on it.

mod canary;
mod fence;
mod open;
mod push;

pub(super) use self::{
    fence::Fences,
    open::{Opened, open},
};
