//! What a function holds for as long as its process lives: the configuration and the clients.

use crate::caller::Identity;
use crate::config::Config;
use crate::database::Database;
use crate::egress::Egress;
use crate::letter::Mailer;
use crate::replicate::Replicate;
use crate::storage::Storage;

/// Built once, before the first event.
pub struct App {
    /// As read from the environment.
    pub config: Config,
    /// The Data API.
    pub database: Database,
    /// The objects.
    pub storage: Storage,
    /// The models.
    pub replicate: Replicate,
    /// For outputs; everything else has its own module.
    pub egress: Egress,
    /// The mail; none where none is configured.
    pub mailer: Option<Mailer>,
    pub(crate) identity: Identity,
}

impl App {
    /// Builds the clients; nothing is connected to yet.
    ///
    /// # Errors
    /// Where no TLS client can be made.
    pub fn new(config: Config) -> Result<Self, reqwest::Error> {
        let egress = Egress::new(&config)?;
        Ok(Self {
            database: Database::new(&config, egress.clone()),
            storage: Storage::new(&config, egress.clone()),
            replicate: Replicate::new(&config, egress.clone()),
            identity: Identity::new(&config),
            mailer: config.mail.as_ref().and_then(Mailer::new),
            egress,
            config,
        })
    }

    /// The configuration from the environment, and the clients.
    ///
    /// # Errors
    /// Names every variable that is missing or unusable.
    pub fn from_env() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::new(Config::from_env()?)?)
    }
}
