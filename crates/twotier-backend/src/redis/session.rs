//! A link from the first byte to the proof that changes are reported on it, and the tests that prove it again.

mod admission;
mod canary;
mod fence;
mod open;
mod permissions;
mod push;

pub(super) use self::{
    admission::{Admission, Session, Verdict},
    fence::Fences,
    open::open,
};
