//! Content Credentials: a signed C2PA manifest in the file. It names the model and the time. It
//! does not list the photo as an ingredient, because that would put the photo's digest and a
//! thumbnail into a file that users share.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use c2pa::crypto::cose::{
    CertificateProfileError, CertificateTrustPolicy, check_end_entity_certificate_profile,
};
use c2pa::status_tracker::StatusTracker;
use c2pa::{
    BoxedSigner, Builder, Context, Reader, Signer, SigningAlg, ValidationState, create_signer,
    jumbf_io,
};
use opusflair::config::{CREDENTIALS_CERTIFICATE, CREDENTIALS_KEY, ContentCredentials};
use opusflair::egress::Egress;
use opusflair::mark::Made;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::SOURCE_TYPE;
use crate::timestamp::Authority;

/// The label that our manifest gives to an existing manifest.
const PARENT: &str = "parent";
/// Signed at startup to check that the key belongs to its certificate.
const PROBE: &[u8] = b"probe";

/// A certificate and its key, ready to sign.
pub(crate) struct Credentials {
    context: Arc<Context>,
    signer: StampedSigner,
    ends_at: OffsetDateTime,
}

/// The certificate or the key cannot be used to sign.
#[derive(Debug, thiserror::Error)]
#[error(
    "{CREDENTIALS_CERTIFICATE} and {CREDENTIALS_KEY}: {0}: see docs/credentials-certificate.md"
)]
pub(crate) struct InvalidCredentials(String);

impl Credentials {
    /// Reads and checks the configuration, so that a mistake fails the start instead of every artwork.
    ///
    /// # Errors
    /// [`InvalidCredentials`]. An expired certificate is not an error, because it may
    /// also expire while functions run.
    pub(crate) fn new(
        configured: &ContentCredentials,
        egress: Egress,
    ) -> Result<Self, InvalidCredentials> {
        let invalid = |what: &str| InvalidCredentials(what.to_owned());
        let certificate = pem::parse(&configured.certificate)
            .map_err(|_| invalid("the first must be PEM, the certificate that signs first"))?;
        let (_, parsed) = X509Certificate::from_der(certificate.contents())
            .map_err(|_| invalid("the first must begin with an X.509 certificate"))?;
        let ends_at = parsed.validity().not_after.to_datetime();
        check_profile(certificate.contents(), ends_at)?;
        let signer = create_signer::from_keys(
            configured.certificate.as_bytes(),
            configured.key.reveal().as_bytes(),
            SigningAlg::Es256,
            None,
        )
        .map_err(|_| invalid("the key must be PKCS#8 in PEM, of ECDSA on P-256"))?;
        let signature = signer.sign(PROBE).unwrap_or_default();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &parsed.public_key().subject_public_key)
            .verify(PROBE, &signature)
            .map_err(|_| invalid("the key is that of another certificate"))?;
        let address = configured.timestamp_url.clone();
        let authority = address.map(|address| Authority { address, egress });
        let signer = StampedSigner { signer, authority };
        Ok(Self { context: Context::new().into_shared(), signer, ends_at })
    }

    /// Whether the manifest is valid. Trust is left to each reader, and so is the
    /// validity of a parent manifest.
    fn holds(&self, signed: &Bytes, content_type: &str) -> c2pa::Result<bool> {
        let reader = Reader::from_shared_context(&self.context)
            .with_stream(content_type, Cursor::new(&signed[..]))?;
        Ok(reader.validation_state() != ValidationState::Invalid)
    }

    pub(crate) fn ends_at(&self) -> OffsetDateTime {
        self.ends_at
    }

    /// Returns the picture with a manifest. `parent` is the original picture, if it already has a
    /// manifest. Remains of a broken manifest may invalidate the new one, so the result is
    /// validated before it is returned.
    pub(crate) fn sign(
        &self,
        picture: &Bytes,
        parent: Option<&Bytes>,
        content_type: &str,
        made: &Made,
    ) -> c2pa::Result<Bytes> {
        let mut builder = Builder::from_shared_context(&self.context)
            .with_definition(definition(parent.is_some(), made))?;
        if let Some(parent) = parent {
            let ingredient = json!({ "relationship": "parentOf", "label": PARENT });
            let mut stream = Cursor::new(&parent[..]);
            builder.add_ingredient_from_stream(
                ingredient.to_string(),
                content_type,
                &mut stream,
            )?;
        }
        let mut source = Cursor::new(&picture[..]);
        let mut signed = Cursor::new(Vec::with_capacity(picture.len() + 64 * 1024));
        builder.sign(&self.signer, content_type, &mut source, &mut signed)?;
        let signed = signed.into_inner().into();
        if !self.holds(&signed, content_type)? {
            return Err(c2pa::Error::ClaimVerification("void".to_owned()));
        }
        Ok(signed)
    }
}

/// Checks that readers accept the certificate for Content Credentials.
fn check_profile(certificate: &[u8], ends_at: OffsetDateTime) -> Result<(), InvalidCredentials> {
    let purposes = CertificateTrustPolicy::default();
    let mut log = StatusTracker::default();
    match check_end_entity_certificate_profile(certificate, &purposes, &mut log, None) {
        Err(CertificateProfileError::CertificateNotValidAtTime)
            if ends_at <= OffsetDateTime::now_utc() =>
        {
            Ok(())
        }
        checked => checked.map_err(|fault| InvalidCredentials(fault.to_string())),
    }
}

/// Whether a picture contains a manifest.
pub(crate) fn are_in(picture: &Bytes, content_type: &str) -> bool {
    jumbf_io::load_jumbf_from_stream(content_type, &mut Cursor::new(&picture[..])).is_ok()
}

fn definition(has_parent: bool, made: &Made) -> Value {
    let mut agent = json!({ "name": made.model });
    if let Some(version) = &made.version {
        agent["version"] = json!(version);
    }
    let action = if has_parent { "c2pa.edited" } else { "c2pa.created" };
    let by_model = json!({
        "action": action,
        "when": made.at.format(&Rfc3339).ok(),
        "softwareAgent": agent,
        "digitalSourceType": SOURCE_TYPE,
    });
    let opened = json!({ "action": "c2pa.opened", "parameters": { "ingredientIds": [PARENT] } });
    let actions = if has_parent { json!([opened, by_model]) } else { json!([by_model]) };
    json!({
        "claim_generator_info": [{ "name": "OpusFlair", "version": env!("CARGO_PKG_VERSION") }],
        "assertions": [{ "label": "c2pa.actions.v2", "data": { "actions": actions }, "created": true }],
    })
}

/// Signs, and adds a time stamp if an authority is configured.
struct StampedSigner {
    signer: BoxedSigner,
    authority: Option<Authority>,
}

impl Signer for StampedSigner {
    fn sign(&self, data: &[u8]) -> c2pa::Result<Vec<u8>> {
        self.signer.sign(data)
    }

    fn alg(&self) -> SigningAlg {
        self.signer.alg()
    }

    fn certs(&self) -> c2pa::Result<Vec<Vec<u8>>> {
        self.signer.certs()
    }

    fn reserve_size(&self) -> usize {
        self.signer.reserve_size()
    }

    fn send_timestamp_request(&self, message: &[u8]) -> Option<c2pa::Result<Vec<u8>>> {
        self.authority.as_ref()?.stamp(message).map(Ok)
    }
}
