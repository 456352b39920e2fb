use std::io::Cursor;

use c2pa::{Context, Reader};
use image::{DynamicImage, ImageFormat, RgbImage};
use opusflair::config::ContentCredentials;
use opusflair::egress::Egress;
use opusflair::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

use super::*;

const KINDS: [(&str, ImageFormat); 3] = [
    ("image/png", ImageFormat::Png),
    ("image/jpeg", ImageFormat::Jpeg),
    ("image/webp", ImageFormat::WebP),
];

fn picture(format: ImageFormat) -> Bytes {
    let colour = |x: u32, y: u32| image::Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 90]);
    let drawn = DynamicImage::ImageRgb8(RgbImage::from_fn(61, 43, colour));
    let mut file = Cursor::new(Vec::new());
    drawn.write_to(&mut file, format).expect("an encoder");
    file.into_inner().into()
}

fn pixels(picture: &[u8]) -> RgbImage {
    image::load_from_memory(picture).expect("a picture").into_rgb8()
}

fn made() -> Made {
    Made {
        model: "black-forest-labs/flux-kontext-pro".to_owned(),
        version: Some("7".to_owned()),
        at: OffsetDateTime::UNIX_EPOCH,
    }
}

/// A new authority with a certificate that fits C2PA's profile and expires in `year`.
fn configured(year: i32) -> ContentCredentials {
    let named = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "OpusFlair");
        params
    };
    let mut authority = named("authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate().expect("a key");
    let authority_certificate = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = Issuer::new(authority, authority_key);

    let mut leaf = named("marks");
    leaf.not_after = rcgen::date_time_ymd(year, 1, 1);
    leaf.use_authority_key_identifier_extension = true;
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    let key = KeyPair::generate().expect("a key");
    let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
    ContentCredentials {
        certificate: format!("{}{}", certificate.pem(), authority_certificate.pem()),
        key: Secret::new(key.serialize_pem()),
        timestamp_url: None,
    }
}

fn egress() -> Egress {
    let config = Config::read(|name| {
        let value = match name {
            "SUPABASE_URL" | "WEBHOOK_BASE_URL" => "https://project.supabase.co",
            "REPLICATE_WEBHOOK_SECRET" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "RECEIPT_SIGNING_KEY" => "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
            "SUPABASE_PUBLISHABLE_KEY" | "SUPABASE_SECRET_KEY" | "REPLICATE_API_TOKEN" => "key",
            "PSEUDONYM_KEY" => "a key of thirty-two characters, or more",
            _ => return None,
        };
        Some(value.to_owned())
    });
    App::new(config.expect("complete")).expect("clients").egress
}

fn credentials() -> Credentials {
    Credentials::new(&configured(2090), egress()).expect("usable")
}

fn signing() -> Marker {
    Marker::new(Some(credentials()))
}

fn read(picture: &[u8], content_type: &str) -> Value {
    let reader = Reader::from_shared_context(&Context::new().into_shared())
        .with_stream(content_type, Cursor::new(picture))
        .expect("a manifest");
    serde_json::from_str(&reader.json()).expect("JSON")
}

fn failures(report: &Value) -> Vec<&str> {
    let failures = report["validation_status"].as_array().into_iter().flatten();
    failures.filter_map(|failure| failure["code"].as_str()).collect()
}

/// The status that validation reports for a self-made certificate. Readers decide about
/// trust, so the tests expect it.
const UNTRUSTED: &str = "signingCredential.untrusted";

#[test]
fn each_format_names_the_model_and_keeps_its_pixels() {
    for (kind, format) in KINDS {
        let before = picture(format);
        let marked = signing().mark(before.clone(), kind, &made()).expect("a picture");
        let report = read(&marked, kind);
        assert_eq!(failures(&report), [UNTRUSTED], "{kind}");
        let manifest = &report["manifests"][report["active_manifest"].as_str().expect("a label")];
        let actions = &manifest["assertions"][0]["data"]["actions"];
        assert_eq!(actions[0]["action"], "c2pa.created", "{manifest}");
        assert_eq!(actions[0]["digitalSourceType"], SOURCE_TYPE);
        assert_eq!(
            actions[0]["softwareAgent"],
            json!({ "name": "black-forest-labs/flux-kontext-pro", "version": "7" })
        );
        assert_eq!(actions[0]["when"], "1970-01-01T00:00:00Z");
        assert_eq!(
            (&manifest["ingredients"], &manifest["thumbnail"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(pixels(&marked), pixels(&before), "{kind}");
    }
}

#[test]
fn a_changed_byte_of_the_picture_breaks_the_credentials() {
    let starts: [&[u8]; 3] = [b"IDAT", b"\xff\xda", b"VP8L"];
    for ((kind, format), start) in KINDS.into_iter().zip(starts) {
        let marked = signing().mark(picture(format), kind, &made()).expect("a picture");
        let mut changed = marked.to_vec();
        let at = changed.windows(start.len()).rposition(|part| part == start).expect("pixels");
        changed[at + 30] ^= 1;
        assert_eq!(
            failures(&read(&changed, kind)),
            [UNTRUSTED, "assertion.dataHash.mismatch"],
            "{kind}"
        );
    }
}

#[test]
fn without_a_certificate_the_mark_is_in_xmp_only() {
    for (kind, format) in KINDS {
        let before = picture(format);
        let marked = Marker::new(None).mark(before.clone(), kind, &made()).expect("a picture");
        let text = String::from_utf8_lossy(&marked);
        assert!(text.contains(&format!("DigitalSourceType=\"{SOURCE_TYPE}\"")), "{kind}");
        assert!(text.contains("AISystemUsed=\"black-forest-labs/flux-kontext-pro\""), "{kind}");
        assert!(!credentials::are_in(&marked, kind), "{kind}");
        assert_eq!(pixels(&marked), pixels(&before), "{kind}");
    }
}

#[test]
fn existing_xmp_is_kept_and_an_existing_mark_is_not_changed() {
    let other = Made { model: "another/model".to_owned(), ..made() };
    for (kind, format) in KINDS {
        let title = "<rdf:Description rdf:about=\"\" xmlns:dc=\"http://purl.org/dc/elements/1.1/\" dc:title=\"kept\"/>";
        let once = Marker::new(None).mark(picture(format), kind, &made()).expect("a picture");
        let twice = Marker::new(None).mark(once.clone(), kind, &other).expect("a picture");
        assert_eq!(once, twice, "{kind}");

        let packet = xmp::tests::packet_with(title);
        let titled = xmp::tests::with_packet(&picture(format), kind, &packet);
        let marked = Marker::new(None).mark(titled, kind, &made()).expect("a picture");
        let text = String::from_utf8_lossy(&marked);
        assert_eq!(text.matches("dc:title=\"kept\"").count(), 1, "{kind}");
        assert_eq!(text.matches("Iptc4xmpExt:DigitalSourceType").count(), 1, "{kind}");
        assert_eq!(text.matches("<x:xmpmeta").count(), 1, "{kind}");
        assert_eq!(pixels(&marked), pixels(&picture(format)), "{kind}");
    }
}

#[test]
fn an_existing_manifest_becomes_the_parent_of_ours() {
    for (kind, format) in KINDS {
        let theirs = signing().mark(picture(format), kind, &made()).expect("a picture");
        let label = read(&theirs, kind)["active_manifest"].clone();
        let ours = signing().mark(theirs, kind, &made()).expect("a picture");
        let report = read(&ours, kind);
        assert_eq!(failures(&report), [UNTRUSTED], "{kind}: {report}");
        let manifest = &report["manifests"][report["active_manifest"].as_str().expect("a label")];
        let parent = &manifest["ingredients"][0];
        assert_eq!(
            (&parent["relationship"], &parent["active_manifest"]),
            (&json!("parentOf"), &label)
        );
        assert!(report["manifests"][label.as_str().expect("a label")].is_object(), "{kind}");
        let actions = &manifest["assertions"][0]["data"]["actions"];
        assert_eq!(
            (&actions[0]["action"], &actions[1]["action"]),
            (&json!("c2pa.opened"), &json!("c2pa.edited"))
        );
    }
}

#[test]
fn credentials_that_a_broken_manifest_invalidates_are_not_written() {
    let kind = "image/jpeg";
    let theirs = signing().mark(picture(ImageFormat::Jpeg), kind, &made()).expect("a picture");
    let mut garbled = theirs.to_vec();
    let at = garbled.windows(4).position(|part| part == b"jumd").expect("a manifest");
    garbled[at..at + 24].fill(0xff);
    let marked = signing().mark(garbled.into(), kind, &made()).expect("a picture");
    assert!(String::from_utf8_lossy(&marked).contains(SOURCE_TYPE));
    assert!(!credentials::are_in(&marked, kind));
}

#[test]
fn without_a_certificate_an_existing_manifest_stays_valid() {
    for (kind, format) in KINDS {
        // This file has no XMP, so marking would add some and break the manifest.
        let signed = credentials().sign(&picture(format), None, kind, &made());
        let theirs = signed.expect("a manifest");
        let kept = Marker::new(None).mark(theirs.clone(), kind, &made()).expect("a picture");
        assert_eq!(kept, theirs, "{kind}");
    }
}

#[test]
fn an_artwork_is_marked_in_xmp_after_the_certificate_expires() {
    let over = Credentials::new(&configured(2001), egress()).expect("a start does not fail for it");
    let marker = Marker::new(Some(over));
    assert!(marker.certificate_ends_at().is_some_and(|end| end < OffsetDateTime::now_utc()));
    let artwork = marker.mark(picture(ImageFormat::Png), "image/png", &made()).expect("a picture");
    assert!(String::from_utf8_lossy(&artwork).contains(SOURCE_TYPE));
    assert!(!credentials::are_in(&artwork, "image/png"));
}

#[test]
fn a_broken_file_is_refused() {
    for (kind, format) in KINDS {
        let whole = picture(format);
        let broken =
            if kind == "image/jpeg" { whole.slice(..100) } else { whole.slice(..whole.len() - 20) };
        assert_eq!(signing().mark(broken, kind, &made()), Err(NoPicture), "{kind}");
    }
}

#[test]
fn a_certificate_that_cannot_sign_is_refused_by_the_names_of_its_variables() {
    let (usable, other) = (configured(2090), configured(2090));
    let with = |certificate: &str, key: &Secret| ContentCredentials {
        certificate: certificate.to_owned(),
        key: key.clone(),
        timestamp_url: None,
    };
    let authority_alone = with(pem_of_authority(&usable.certificate), &usable.key);
    for (unusable, what) in [
        (with("none", &usable.key), "must be PEM"),
        (with(&usable.certificate, &Secret::new("none")), "PKCS#8"),
        (with(&usable.certificate, &other.key), "another certificate"),
        (authority_alone, "self-signed"),
    ] {
        let refused = Credentials::new(&unusable, egress()).err().expect("unusable").to_string();
        assert!(refused.contains("CONTENT_CREDENTIALS_CERTIFICATE"), "{refused}");
        assert!(refused.contains(what), "{refused}");
    }
}

/// The last certificate of a chain.
fn pem_of_authority(chain: &str) -> &str {
    &chain[chain.rfind("-----BEGIN").expect("a chain")..]
}
