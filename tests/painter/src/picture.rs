//! A picture for the styles: pixels of three numbers from 0 to 1.

use image::RgbImage;

/// Red, green and blue, each from 0 to 1.
pub(crate) type Colour = [f32; 3];

/// The pixels, row by row from the top left.
#[derive(Clone)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<Colour>,
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
#[expect(clippy::cast_possible_wrap, reason = "sizes are far below the limits")]
impl Picture {
    pub(crate) fn from_image(image: &RgbImage) -> Self {
        let pixels = image.pixels().map(|pixel| pixel.0.map(|part| f32::from(part) / 255.0));
        Self {
            width: image.width() as usize,
            height: image.height() as usize,
            pixels: pixels.collect(),
        }
    }

    pub(crate) fn to_image(&self) -> RgbImage {
        let bytes =
            self.pixels.iter().flatten().map(|part| (part.clamp(0.0, 1.0) * 255.0).round() as u8);
        RgbImage::from_raw(self.width as u32, self.height as u32, bytes.collect())
            .expect("three bytes a pixel")
    }

    /// Makes a new picture by calling `pixel` for each position.
    pub(crate) fn map(&self, mut pixel: impl FnMut(usize, usize, Colour) -> Colour) -> Self {
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..self.height {
            for x in 0..self.width {
                pixels.push(pixel(x, y, self.pixels[y * self.width + x]));
            }
        }
        Self { pixels, ..*self }
    }

    pub(crate) fn index(&self, x: isize, y: isize) -> usize {
        let x = x.clamp(0, self.width as isize - 1) as usize;
        let y = y.clamp(0, self.height as isize - 1) as usize;
        y * self.width + x
    }

    pub(crate) fn luma(&self) -> Plane {
        Plane {
            width: self.width,
            height: self.height,
            values: self.pixels.iter().map(|&colour| luma(colour)).collect(),
        }
    }
}

/// A picture with one number per pixel.
#[derive(Clone)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) values: Vec<f32>,
}

#[expect(clippy::cast_precision_loss, reason = "a radius")]
#[expect(clippy::cast_sign_loss, reason = "clamped before")]
#[expect(clippy::cast_possible_wrap, reason = "sizes are far below the limits")]
impl Plane {
    pub(crate) fn at(&self, x: usize, y: usize) -> f32 {
        self.values[y * self.width + x]
    }

    pub(crate) fn near(&self, x: isize, y: isize) -> f32 {
        let x = x.clamp(0, self.width as isize - 1) as usize;
        let y = y.clamp(0, self.height as isize - 1) as usize;
        self.at(x, y)
    }

    pub(crate) fn map(&self, value: impl Fn(f32) -> f32) -> Self {
        Self { values: self.values.iter().map(|&old| value(old)).collect(), ..*self }
    }

    /// A soft blur. Three box blurs approximate a Gaussian blur.
    pub(crate) fn blur(&self, radius: usize) -> Self {
        (0..3).fold(self.clone(), |plane, _| {
            plane.box_blur(radius).transpose().box_blur(radius).transpose()
        })
    }

    fn box_blur(&self, radius: usize) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        let reach = radius as isize;
        for y in 0..self.height {
            let row = &self.values[y * self.width..(y + 1) * self.width];
            let get = |x: isize| row[x.clamp(0, self.width as isize - 1) as usize];
            let mut sum: f32 = (-reach..=reach).map(get).sum();
            for x in 0..self.width as isize {
                values.push(sum / (2.0 * radius as f32 + 1.0));
                sum += get(x + reach + 1) - get(x - reach);
            }
        }
        Self { values, ..*self }
    }

    fn transpose(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        for x in 0..self.width {
            for y in 0..self.height {
                values.push(self.at(x, y));
            }
        }
        Self { width: self.height, height: self.width, values }
    }

    /// Sobel's gradient at a position.
    pub(crate) fn gradient(&self, x: usize, y: usize) -> (f32, f32) {
        let (x, y) = (x as isize, y as isize);
        let at = |dx: isize, dy: isize| self.near(x + dx, y + dy);
        let across =
            at(1, -1) + 2.0 * at(1, 0) + at(1, 1) - at(-1, -1) - 2.0 * at(-1, 0) - at(-1, 1);
        let down = at(-1, 1) + 2.0 * at(0, 1) + at(1, 1) - at(-1, -1) - 2.0 * at(0, -1) - at(1, -1);
        (across, down)
    }

    /// The strength of edges, from 0 to about 1.
    pub(crate) fn edges(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        for y in 0..self.height {
            for x in 0..self.width {
                let (across, down) = self.gradient(x, y);
                values.push(across.hypot(down) / 4.0);
            }
        }
        Self { values, ..*self }
    }

    /// Pen lines, from 0 to 1: they are where a fine blur is darker than a coarse one.
    pub(crate) fn ink(&self, fine: usize, coarse: usize, strength: f32) -> Self {
        let (near, far) = (self.blur(fine), self.blur(coarse));
        let values = near.values.iter().zip(&far.values);
        Self {
            values: values
                .map(|(near, far)| ((far - near) * strength - 0.15).clamp(0.0, 1.0))
                .collect(),
            ..*self
        }
    }
}

/// Perceived brightness (Rec. 709).
pub(crate) fn luma([red, green, blue]: Colour) -> f32 {
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

pub(crate) fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|part| from[part] + (to[part] - from[part]) * share)
}

pub(crate) fn scale(colour: Colour, factor: f32) -> Colour {
    colour.map(|part| part * factor)
}

/// A factor above 1 moves the colour away from grey, and a smaller one moves it towards grey.
pub(crate) fn saturate(colour: Colour, factor: f32) -> Colour {
    let grey = luma(colour);
    mix([grey; 3], colour, factor).map(|part| part.clamp(0.0, 1.0))
}

/// Scales the distance from middle grey.
pub(crate) fn contrast(colour: Colour, factor: f32) -> Colour {
    colour.map(|part| ((part - 0.5) * factor + 0.5).clamp(0.0, 1.0))
}

/// A colour from hue (in turns), saturation and value, each from 0 to 1.
pub(crate) fn from_hsv(hue: f32, saturation: f32, value: f32) -> Colour {
    [5.0, 3.0, 1.0].map(|offset: f32| {
        let k = (offset + hue.rem_euclid(1.0) * 6.0) % 6.0;
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

/// The hue in turns; 0 for grey.
pub(crate) fn hue([red, green, blue]: Colour) -> f32 {
    let most = red.max(green).max(blue);
    let span = most - red.min(green).min(blue);
    if span < 1e-4 {
        0.0
    } else if red >= green && red >= blue {
        ((green - blue) / span / 6.0).rem_euclid(1.0)
    } else if green >= blue {
        (blue - red) / span / 6.0 + 1.0 / 3.0
    } else {
        (red - green) / span / 6.0 + 2.0 / 3.0
    }
}

pub(crate) fn distance(a: Colour, b: Colour) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}
