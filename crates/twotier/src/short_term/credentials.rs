//! Who calls, and what they may do.

use std::fmt;

use twotier_core::{AccessTier, ConfigError, Error, Namespace, Operation};

use crate::Result;

/// The longest agent id, in bytes.
pub const MAX_AGENT_ID_BYTES: usize = 256;

/// An agent, and the tier that it acts in.
///
/// They are what the caller says they are: they keep well-meaning agents from changing what is not theirs to change,
/// and no secret proves them. What an agent must not be able to do at all is a matter of permissions in the backend.
///
/// ```
/// use twotier::short_term::{AccessTier, Credentials};
///
/// let planner = Credentials::new("planner", AccessTier::Contributor)?;
/// assert_eq!((planner.agent_id(), planner.tier()), ("planner", AccessTier::Contributor));
/// assert_eq!(Credentials::new("", AccessTier::Steward).unwrap_err().field(), "agent_id");
/// # Ok::<(), twotier::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    agent_id: String,
    tier: AccessTier,
}

impl Credentials {
    /// Makes the credentials of an agent. Its id may be any text, and names a key space of its own.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for the field `agent_id` when it is empty or longer than [`MAX_AGENT_ID_BYTES`].
    pub fn new(agent_id: impl Into<String>, tier: AccessTier) -> Result<Self, ConfigError> {
        let agent_id = agent_id.into();
        check_agent_id(&agent_id)?;
        Ok(Self { agent_id, tier })
    }

    /// Returns the id of the agent.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// Returns the tier that the agent acts in.
    #[must_use]
    pub fn tier(&self) -> AccessTier {
        self.tier
    }

    /// Refuses what takes a higher tier.
    pub(super) fn permit(&self, operation: Operation, namespace: &Namespace, needed: AccessTier) -> Result<()> {
        if self.tier < needed {
            return Err(Error::Forbidden { operation, namespace: namespace.clone(), held: self.tier, needed });
        }
        Ok(())
    }
}

impl fmt::Debug for Credentials {
    /// Prints the tier. An agent id may identify people, as a key may.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("tier", &self.tier).finish_non_exhaustive()
    }
}

pub(super) fn check_agent_id(agent_id: &str) -> Result<(), ConfigError> {
    match agent_id.len() {
        0 => Err(ConfigError::new("agent_id", "must not be empty")),
        1..=MAX_AGENT_ID_BYTES => Ok(()),
        length => {
            let reason = format!("is {length} bytes long, at most {MAX_AGENT_ID_BYTES} are allowed");
            Err(ConfigError::new("agent_id", reason))
        }
    }
}
