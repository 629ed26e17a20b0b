//! What only the shell around the engine can do for a command.

use crate::config::Config;

/// See the module's head. Implemented by the server; the tests' engines have none.
pub trait Host: Send + Sync {
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
}
