//! The styles. Words of the prompt select one, and each is easy to recognise.

mod comic;
mod glass;
mod mosaic;
mod neon;
mod oil;
mod pencil;
mod pixel;
mod plain;
mod pop;
mod watercolor;
mod woodblock;

use crate::picture::Picture;

type Paint = fn(&Picture, u64) -> Picture;

/// The words of a prompt, and the style that they select.
const STYLES: [(&str, Paint); 10] = [
    ("watercolor painting", watercolor::paint),
    ("oil painting", oil::paint),
    ("pencil sketch", pencil::paint),
    ("pop art", pop::paint),
    ("stained glass", glass::paint),
    ("pixel art", pixel::paint),
    ("woodblock print", woodblock::paint),
    ("neon", neon::paint),
    ("mosaic", mosaic::paint),
    ("comic book", comic::paint),
];

/// Paints a picture in the style that the prompt asks for. The same seed gives the same result.
pub(crate) fn paint(picture: &Picture, prompt: &str, seed: u64) -> Picture {
    let prompt = prompt.to_lowercase();
    let known = STYLES.iter().find(|(words, _)| prompt.contains(words));
    known.map_or(plain::paint as Paint, |(_, paint)| *paint)(picture, seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::distance;

    /// A scene with hills, a sun and a house: it has edges, slopes and plain areas.
    #[expect(clippy::cast_precision_loss, reason = "a small picture")]
    fn scene() -> Picture {
        let blank = Picture { width: 160, height: 120, pixels: vec![[0.0; 3]; 160 * 120] };
        blank.map(|x, y, _| {
            let (x, y) = (x as f32, y as f32);
            let hill = 70.0 + 12.0 * (x / 25.0).sin();
            if (x - 120.0).hypot(y - 25.0) < 14.0 {
                [0.98, 0.85, 0.3]
            } else if (40.0..70.0).contains(&x) && (55.0..90.0).contains(&y) {
                [0.7, 0.25, 0.2]
            } else if y > hill {
                [0.2, 0.5 - (y - hill) / 300.0, 0.2]
            } else {
                [0.45, 0.65, 0.9 - y / 300.0]
            }
        })
    }

    fn difference(a: &Picture, b: &Picture) -> f32 {
        let pairs = a.pixels.iter().zip(&b.pixels);
        #[expect(clippy::cast_precision_loss, reason = "a small picture")]
        let count = a.pixels.len() as f32;
        pairs.map(|(&a, &b)| distance(a, b).sqrt()).sum::<f32>() / count
    }

    #[test]
    fn every_style_differs_clearly_from_the_photo_and_from_every_other() {
        let photo = scene();
        let mut painted = vec![("the photo", photo.clone())];
        painted.extend(STYLES.iter().map(|(name, paint)| (*name, paint(&photo, 7))));
        for (index, (name, picture)) in painted.iter().enumerate() {
            assert_eq!((picture.width, picture.height), (photo.width, photo.height), "{name}");
            for (other_name, other) in &painted[index + 1..] {
                let difference = difference(picture, other);
                assert!(difference > 0.06, "{name} and {other_name} differ by {difference}");
            }
        }
    }

    #[test]
    fn a_style_is_chosen_by_its_words_and_repeats_for_its_seed() {
        let photo = scene();
        let asked = paint(&photo, "Turn this photo into a MOSAIC of stones", 3);
        assert!(difference(&asked, &mosaic::paint(&photo, 3)) < f32::EPSILON);
        assert!(difference(&asked, &mosaic::paint(&photo, 4)) > 0.01);
        assert!(difference(&paint(&photo, "", 3), &plain::paint(&photo, 3)) < f32::EPSILON);
    }
}
