//! What is made of bytes that do not decode.

use serde::{Deserialize, Serialize};

/// What bytes in the backend are to a read when the codec cannot decode them. They are counted in
/// `stats().backend.undecodable` in either case.
///
/// One word in a configuration file, the environment or the builder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnUndecodable {
    /// `error`: every read of the key is an error until it is written, deleted or expires. Nothing that somebody else
    /// wrote is replaced unseen.
    #[default]
    Error,
    /// `miss`: the key is read as absent, and remembered so for the negative time to live. A load or an update
    /// replaces these very bytes, and no others that may have come in their place.
    Miss,
}
