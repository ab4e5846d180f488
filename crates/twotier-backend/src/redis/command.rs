//! The commands that go over the connections of a link: reads, writes, and how their replies are read.

mod batch;
mod channel;
mod coalesce;
mod connections;
mod inline;
mod lanes;
mod order;
mod read;
mod sizes;
mod transaction;
mod write;

pub(super) use self::{
    batch::{get_each, get_many},
    channel::{Channels, Message},
    coalesce::{Commands, get, start_get},
    connections::{Connections, Reporting},
    order::WriteOrder,
    read::{ReadResult, get_asking},
    write::{Action, Change, Cursor, Effect, Life, add, change, change_many, clear, make, make_asking, scan},
};
