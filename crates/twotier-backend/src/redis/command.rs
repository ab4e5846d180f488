//! The commands that go over the connections of a link: reads, writes, and how their replies are read.

mod batch;
mod channel;
mod connections;
mod inline;
mod lanes;
mod order;
mod read;
mod single;
mod sizes;
mod transaction;
mod write;

pub(super) use self::{
    batch::{get_each, get_many},
    channel::{Channels, Message},
    connections::{Connections, Reporting},
    order::WriteOrder,
    read::{ReadResult, get, get_asking},
    single::{Commands, start_get},
    write::{Action, Change, Cursor, Effect, Life, add, change, change_many, clear, make, make_asking, scan},
};
