//! XMP in JPEG, PNG and WebP files: one packet that says how the picture was made.
//! XMP from other programs is kept.

use bytes::Bytes;
use img_parts::jpeg::{Jpeg, JpegSegment, markers};
use img_parts::png::{Png, PngChunk};
use img_parts::riff::{RiffChunk, RiffContent};
use img_parts::webp::{CHUNK_VP8X, CHUNK_XMP, WebP};
use img_parts::{Error, ImageEXIF, ImageICC};
use opusflair::mark::Made;

use crate::SOURCE_TYPE;

const JPEG_HEADER: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// The keyword, then the markers for no compression and no language.
const PNG_HEADER: &[u8] = b"XML:com.adobe.xmp\0\0\0\0\0";
/// A flag in the first byte of VP8X.
const WEBP_HAS_XMP: u8 = 0b100;
const END: &str = "</rdf:RDF>";

/// Returns the picture with XMP that says which model made it.
///
/// # Errors
/// If the file is broken.
pub(crate) fn describe(picture: &Bytes, content_type: &str, made: &Made) -> Result<Bytes, Error> {
    match content_type {
        "image/png" => describe_png(picture.clone(), made),
        "image/webp" => describe_webp(picture.clone(), made),
        _ => describe_jpeg(picture.clone(), made),
    }
}

fn describe_jpeg(picture: Bytes, made: &Made) -> Result<Bytes, Error> {
    let mut jpeg = Jpeg::from_bytes(picture)?;
    let is_xmp = |segment: &JpegSegment| segment.contents().starts_with(JPEG_HEADER);
    let there = jpeg.segments().iter().position(is_xmp);
    let before = there.map(|at| jpeg.segments()[at].contents().slice(JPEG_HEADER.len()..));
    let Some(packet) = packet(before.as_deref(), made) else { return Ok(jpeg.encoder().bytes()) };
    let contents = Bytes::from([JPEG_HEADER, packet.as_bytes()].concat());
    let segment = JpegSegment::new_with_contents(markers::APP1, contents);
    if let Some(at) = there {
        jpeg.segments_mut()[at] = segment;
    } else {
        let exif = jpeg.exif();
        let is_first = |segment: &JpegSegment| {
            segment.marker() == markers::APP0
                || (segment.marker() == markers::APP1 && exif.is_some())
        };
        let first = jpeg.segments().iter().take_while(|segment| is_first(segment)).count();
        jpeg.segments_mut().insert(first, segment);
    }
    Ok(jpeg.encoder().bytes())
}

fn describe_png(picture: Bytes, made: &Made) -> Result<Bytes, Error> {
    let mut png = Png::from_bytes(picture)?;
    if png.chunks().last().is_none_or(|chunk| chunk.kind() != *b"IEND") {
        return Err(Error::Truncated);
    }
    let is_xmp = |chunk: &PngChunk| chunk.kind() == *b"iTXt" && is_xmp_text(chunk.contents());
    let there = png.chunks().iter().position(is_xmp);
    let before = there.map(|at| xmp_text(png.chunks()[at].contents()));
    let Some(packet) = packet(before.as_deref(), made) else { return Ok(png.encoder().bytes()) };
    let contents = Bytes::from([PNG_HEADER, packet.as_bytes()].concat());
    let chunk = PngChunk::new(*b"iTXt", contents);
    match there {
        Some(at) => png.chunks_mut()[at] = chunk,
        None => png.chunks_mut().insert(1, chunk),
    }
    Ok(png.encoder().bytes())
}

/// Compares only the keyword, because the chunk may also hold a language and a translated keyword.
fn is_xmp_text(contents: &[u8]) -> bool {
    contents.starts_with(&PNG_HEADER[..=PNG_HEADER.len() - 5])
}

/// The XMP text; empty if it is compressed, and then treated as unreadable.
fn xmp_text(contents: &Bytes) -> Bytes {
    let keyword = PNG_HEADER.len() - 4;
    if contents.get(keyword) != Some(&0) {
        return Bytes::new();
    }
    let mut ends = (keyword + 2..contents.len()).filter(|at| contents[*at] == 0);
    ends.nth(1).map_or_else(Bytes::new, |end| contents.slice(end + 1..))
}

fn describe_webp(picture: Bytes, made: &Made) -> Result<Bytes, Error> {
    let mut webp = WebP::from_bytes(picture)?;
    let before = webp.chunk_by_id(CHUNK_XMP).and_then(|chunk| chunk.content().data()).cloned();
    let Some(packet) = packet(before.as_deref(), made) else { return Ok(webp.encoder().bytes()) };
    webp.remove_chunks_by_id(CHUNK_XMP);
    let content = RiffContent::Data(Bytes::from(packet));
    webp.chunks_mut().push(RiffChunk::new(CHUNK_XMP, content));
    // Converts a simple WebP file to the extended form, because only that form may hold XMP.
    let profile = webp.icc_profile();
    webp.set_icc_profile(profile);
    let mut chunks = webp.chunks_mut().iter_mut();
    let header = chunks.find(|chunk| chunk.id() == CHUNK_VP8X).ok_or(Error::Truncated)?;
    if let RiffContent::Data(data) = header.content_mut() {
        let mut flags = data.to_vec();
        *flags.first_mut().ok_or(Error::Truncated)? |= WEBP_HAS_XMP;
        *data = Bytes::from(flags);
    }
    Ok(webp.encoder().bytes())
}

/// The packet to write; `None` if the existing one already says it, or cannot be read.
fn packet(before: Option<&[u8]>, made: &Made) -> Option<String> {
    let description = description(made);
    let Some(before) = before else {
        return Some(format!(
            "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\
             <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\
             <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">{description}{END}\
             </x:xmpmeta><?xpacket end=\"r\"?>"
        ));
    };
    let before = std::str::from_utf8(before).ok()?;
    if before.contains("DigitalSourceType") {
        return None;
    }
    let (start, end) = before.rsplit_once(END)?;
    Some(format!("{start}{description}{END}{end}"))
}

fn description(made: &Made) -> String {
    let mut system = attribute("AISystemUsed", &made.model);
    if let Some(version) = &made.version {
        system += &attribute("AISystemVersionUsed", version);
    }
    format!(
        "<rdf:Description rdf:about=\"\" \
         xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\"{}{system}/>",
        attribute("DigitalSourceType", SOURCE_TYPE)
    )
}

fn attribute(name: &str, value: &str) -> String {
    let is_plain = |letter: &char| letter.is_ascii_graphic() && !matches!(letter, '<' | '&' | '"');
    let plain: String = value.chars().filter(is_plain).collect();
    format!(" Iptc4xmpExt:{name}=\"{plain}\"")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A packet from another program.
    pub(crate) fn packet_with(description: &str) -> String {
        format!(
            "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF \
             xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">{description}{END}</x:xmpmeta>"
        )
    }

    /// A picture with a packet, as another program would write it.
    pub(crate) fn with_packet(picture: &Bytes, content_type: &str, packet: &str) -> Bytes {
        let made =
            Made { model: "m".to_owned(), version: None, at: time::OffsetDateTime::UNIX_EPOCH };
        let ours = super::packet(None, &made).expect("a packet");
        let described = describe(picture, content_type, &made).expect("a picture");
        // The packet keeps its length, so no size in the file changes. In a PNG, only the checksum changes.
        let packet = format!("{packet:width$}", width = ours.len());
        let at = described.windows(ours.len()).position(|part| part == ours.as_bytes());
        let at = at.expect("the packet is there");
        let mut file = described.to_vec();
        file[at..at + ours.len()].copy_from_slice(packet.as_bytes());
        if content_type == "image/png" {
            let start = at - PNG_HEADER.len() - 4;
            let end = at + ours.len();
            let checksum = crc32fast::hash(&file[start..end]).to_be_bytes();
            file[end..end + 4].copy_from_slice(&checksum);
        }
        file.into()
    }
}
