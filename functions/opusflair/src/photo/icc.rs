//! Colour profiles (ICC.1), reduced to colour.
//!
//! A profile may name a screen, its serial number and its owner, and the day of its making, and hold
//! private tags of any kind. So it is not copied: the tags that colours are computed from are taken
//! out of it and put into a new one (T2).

/// The longest profile that is kept, in bytes; those for print take about a quarter of it.
const MAX_LENGTH: usize = 2 * 1024 * 1024;
const HEADER: usize = 128;
/// The words of every profile that we write.
const DESCRIPTION: &str = "Color profile";

/// A tag's name and its data.
type Tag<'a> = ([u8; 4], &'a [u8]);

/// The same colours without the words. `None` where it is not a profile of a picture, is too long, or
/// cannot be read: the picture then counts as sRGB, as every viewer would have it.
pub(super) fn neutral(profile: &[u8]) -> Option<Vec<u8>> {
    if profile.len() > MAX_LENGTH {
        return None;
    }
    let header = neutral_header(profile.first_chunk()?)?;
    let (count, table) = profile[HEADER..].split_first_chunk()?;
    let count = usize::try_from(u32::from_be_bytes(*count)).ok()?;
    let entries = table.chunks_exact(12).take(count);
    let mut tags: Vec<Tag> = entries.filter_map(|entry| colour_tag(profile, entry)).collect();
    if tags.is_empty() {
        return None;
    }
    let (description, copyright) = words(header[8]);
    tags.push((*b"desc", &description));
    tags.push((*b"cprt", &copyright));
    tags.sort_by_key(|tag| tag.0);
    tags.dedup_by_key(|tag| tag.0);
    // Tags may overlap: what is read may be shorter than what would be written.
    let total: usize = tags.iter().map(|tag| tag.1.len() + 16).sum();
    (HEADER + 4 + total <= MAX_LENGTH).then(|| assemble(header, &tags))
}

/// Keeps version, class, colour spaces, flags, intent and illuminant.
fn neutral_header(header: &[u8; HEADER]) -> Option<[u8; HEADER]> {
    let is_known = &header[36..40] == b"acsp"
        && matches!(&header[12..16], b"mntr" | b"scnr" | b"prtr" | b"spac")
        && matches!(&header[16..20], b"RGB " | b"GRAY" | b"CMYK")
        && matches!(&header[20..24], b"XYZ " | b"Lab ");
    let mut neutral = [0; HEADER];
    for kept in [8..24, 36..40, 44..48, 64..80] {
        neutral[kept.clone()].copy_from_slice(&header[kept]);
    }
    // A date is required: the first day of 2000.
    neutral[24..30].copy_from_slice(&[0x07, 0xd0, 0, 1, 0, 1]);
    is_known.then_some(neutral)
}

fn colour_tag<'a>(profile: &'a [u8], entry: &[u8]) -> Option<Tag<'a>> {
    let number = |at: usize| -> Option<usize> {
        usize::try_from(u32::from_be_bytes(*entry.get(at..)?.first_chunk()?)).ok()
    };
    let name = *entry.first_chunk()?;
    let data = profile.get(number(4)?..)?.get(..number(8)?)?;
    let kind: [u8; 4] = *data.first_chunk()?;
    let length = match (&name, &kind) {
        (b"rXYZ" | b"gXYZ" | b"bXYZ" | b"wtpt" | b"bkpt", b"XYZ ") => 20,
        (b"chad", b"sf32") => 44,
        (b"cicp", b"cicp") => 12,
        (b"rTRC" | b"gTRC" | b"bTRC" | b"kTRC", b"curv") => {
            let points = u32::from_be_bytes(*data.get(8..)?.first_chunk()?);
            12 + 2 * usize::try_from(points).ok()?
        }
        (b"rTRC" | b"gTRC" | b"bTRC" | b"kTRC", b"para") => {
            let function = u16::from_be_bytes(*data.get(8..)?.first_chunk()?);
            12 + 4 * [1, 3, 4, 5, 7].get(usize::from(function))?
        }
        (
            b"A2B0" | b"A2B1" | b"A2B2" | b"B2A0" | b"B2A1" | b"B2A2" | b"gamt",
            b"mft1" | b"mft2" | b"mAB " | b"mBA ",
        ) => data.len(),
        _ => return None,
    };
    Some((name, data.get(..length)?))
}

/// Description and copyright, which the standard requires, in the form of the profile's version.
fn words(version: u8) -> (Vec<u8>, Vec<u8>) {
    if version >= 4 {
        let mut text = b"mluc\0\0\0\0\0\0\0\x01\0\0\0\x0cenUS".to_vec();
        text.extend_from_slice(&length(2 * DESCRIPTION.len()));
        text.extend_from_slice(&length(28));
        text.extend(DESCRIPTION.encode_utf16().flat_map(u16::to_be_bytes));
        return (text.clone(), text);
    }
    let mut description = b"desc\0\0\0\0".to_vec();
    description.extend_from_slice(&length(DESCRIPTION.len() + 1));
    description.extend_from_slice(DESCRIPTION.as_bytes());
    // Its end, and empty forms of the same in Unicode and in ScriptCode.
    description.resize(description.len() + 1 + 8 + 3 + 67, 0);
    (description, [b"text\0\0\0\0", DESCRIPTION.as_bytes(), &[0]].concat())
}

/// Tags with the same data share it, as the three curves of most profiles do.
fn assemble(header: [u8; HEADER], tags: &[Tag]) -> Vec<u8> {
    let start = HEADER + 4 + 12 * tags.len();
    let mut data: Vec<u8> = Vec::new();
    let mut placed: Vec<(&[u8], usize)> = Vec::new();
    let mut profile = header.to_vec();
    profile.extend_from_slice(&length(tags.len()));
    for &(name, tag) in tags {
        let known = placed.iter().find(|(other, _)| *other == tag).map(|&(_, at)| at);
        let at = known.unwrap_or_else(|| {
            let at = start + data.len();
            data.extend_from_slice(tag);
            data.resize(data.len().next_multiple_of(4), 0);
            placed.push((tag, at));
            at
        });
        profile.extend_from_slice(&name);
        profile.extend_from_slice(&length(at));
        profile.extend_from_slice(&length(tag.len()));
    }
    profile.append(&mut data);
    let total = length(profile.len());
    profile[..4].copy_from_slice(&total);
    profile
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("no longer than what a profile may be").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::photo::samples;

    #[test]
    fn only_colour_stays_of_a_profile() {
        let original = samples::profile();
        let neutral = neutral(&original).expect("a profile");
        assert!(!samples::contains(&neutral, samples::CANARY));
        for gone in [b"mmod", b"priv"] {
            assert!(samples::contains(&original, gone) && !samples::contains(&neutral, gone));
        }
        for kept in [b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"desc", b"cprt"] {
            assert!(samples::contains(&neutral, kept));
        }
        assert_eq!(super::neutral(&neutral), Some(neutral));
    }

    #[test]
    fn the_words_have_the_form_of_the_version() {
        let mut profile = samples::profile();
        assert!(samples::contains(&neutral(&profile).expect("version 2"), b"desc\0\0\0\0"));
        profile[8] = 4;
        assert!(samples::contains(&neutral(&profile).expect("version 4"), b"mluc\0\0\0\0"));
    }

    #[test]
    fn what_is_no_profile_of_a_picture_goes() {
        let mut link = samples::profile();
        link[12..16].copy_from_slice(b"link");
        for profile in [&b""[..], &[0; 200], &link, &samples::profile()[..140]] {
            assert_eq!(neutral(profile), None);
        }
    }

    #[test]
    fn tags_that_overlap_make_no_profile_longer_than_the_limit() {
        let mut profile = samples::profile();
        for (entry, name) in [b"A2B0", b"A2B1", b"A2B2"].into_iter().enumerate() {
            // Each begins with its own type, and they share the rest.
            let at = length(500 + 4 * entry);
            let entry = [*name, at, length(MAX_LENGTH - 1000)].concat();
            profile.splice(132..132, entry);
        }
        profile[128..132].copy_from_slice(&length(3));
        profile.resize(500, 0);
        profile.extend(b"mft2".repeat(3));
        profile.resize(MAX_LENGTH, 0);
        assert_eq!(neutral(&profile), None);
    }
}
