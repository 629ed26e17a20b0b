//! What only the shell around the engine can do for a command.

use super::facts::ProcessFacts;
use crate::clock::Origin;
use crate::config::Config;

/// See the module's head. Implemented by the server; the tests' engines have none.
pub trait Host: Send + Sync {
    /// Microseconds since some instant. Asked while ranges are locked, so it waits for nothing.
    fn stopwatch_us(&self) -> u64;

    /// Fills in memory and processor time as of now.
    fn measure(&self, facts: &mut ProcessFacts);

    /// Acts on directives that CONFIG SET changed: ports, log level, allowed clients.
    ///
    /// # Errors
    /// The reason why it cannot be; nothing is changed then.
    fn reconfigure(&self, changed: &[&'static str], config: &Config) -> Result<(), String>;

    /// Writes the configuration file.
    ///
    /// # Errors
    /// What CONFIG REWRITE answers, the code included.
    fn rewrite_config(&self, config: &Config) -> Result<(), String>;

    /// Has a snapshot made in place of the journals. False if one is being made.
    fn rewrite_journal(&self) -> bool;

    /// Writes down whom this node is linked with.
    fn keep_members(&self);

    /// Sets aside another life of this node, so that no start takes it.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn reserve_life(&self) -> Result<Origin, String>;
}
