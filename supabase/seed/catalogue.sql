-- What users can make. Safe on any database: it adds what is missing and updates what has changed.

insert into public.models (
  id, name, replicate_model, credits, settings_schema, default_settings, position
)
select id, name, replicate_model, credits, common || own, defaults, position
from (values
  (
    'kontext-pro', 'FLUX.1 Kontext [pro]', 'black-forest-labs/flux-kontext-pro', 1,
    '{"output_format": {"enum": ["png", "jpg"]}, "prompt_upsampling": {"type": "boolean"}, "safety_tolerance": {"type": "integer", "minimum": 0, "maximum": 2}}'::jsonb,
    '{"aspect_ratio": "match_input_image", "output_format": "png", "safety_tolerance": 2}'::jsonb, 1
  ),
  (
    'kontext-max', 'FLUX.1 Kontext [max]', 'black-forest-labs/flux-kontext-max', 2,
    '{"output_format": {"enum": ["png", "jpg"]}, "prompt_upsampling": {"type": "boolean"}, "safety_tolerance": {"type": "integer", "minimum": 0, "maximum": 2}}'::jsonb,
    '{"aspect_ratio": "match_input_image", "output_format": "png", "safety_tolerance": 2}'::jsonb, 2
  ),
  (
    'kontext-dev', 'FLUX.1 Kontext [dev]', 'black-forest-labs/flux-kontext-dev', 1,
    '{"aspect_ratio": {"enum": ["match_input_image", "1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "4:5", "5:4", "21:9", "9:21"]}, "output_format": {"enum": ["webp", "jpg", "png"]}, "output_quality": {"type": "integer", "minimum": 0, "maximum": 100}, "num_inference_steps": {"type": "integer", "minimum": 4, "maximum": 50}, "guidance": {"type": "number", "minimum": 0, "maximum": 10}}'::jsonb,
    '{"aspect_ratio": "match_input_image", "output_format": "webp", "output_quality": 90}'::jsonb, 3
  )
) as model (id, name, replicate_model, credits, own, defaults, position)
cross join (values (
  '{"aspect_ratio": {"enum": ["match_input_image", "1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "4:5", "5:4", "21:9", "9:21", "2:1", "1:2"]}, "seed": {"type": "integer", "minimum": 0, "maximum": 2147483647}}'::jsonb
)) as settings (common)
on conflict (id) do update
set name = excluded.name,
  replicate_model = excluded.replicate_model,
  credits = excluded.credits,
  settings_schema = excluded.settings_schema,
  default_settings = excluded.default_settings,
  position = excluded.position;

-- To change a wording, add a line with the next version. Never change a line that exists.
insert into private.style_versions (style, version, prompt) values
  ('watercolor', 1, 'Turn this photo into a watercolor painting: wet-on-wet washes, pigment pooling at the edges, visible paper grain, soft light. Keep the composition and the faces recognisable.'),
  ('oil-painting', 1, 'Turn this photo into an oil painting: thick impasto strokes, rich glazes, warm gallery light. Keep the composition and the faces recognisable.'),
  ('pencil-sketch', 1, 'Turn this photo into a pencil sketch: graphite lines, cross-hatched shadows, white paper showing through. Keep the proportions exact.'),
  ('pop-art', 1, 'Turn this photo into pop art: flat bold colours, halftone dots, strong contrast, screen-print texture. Keep the subject recognisable.'),
  ('stained-glass', 1, 'Turn this photo into a stained glass window: luminous coloured panes divided by dark lead lines. Keep the composition.'),
  ('pixel-art', 1, 'Turn this photo into pixel art: a coarse grid, a small palette, crisp square pixels. Keep the subject recognisable.'),
  ('woodblock-print', 1, 'Turn this photo into a Japanese woodblock print: few flat inks, fine dark key lines, warm washi paper. Keep the composition.'),
  ('neon-night', 1, 'Turn this photo into a night scene drawn in neon: glowing coloured tubes along the contours on a dark ground. Keep the composition.'),
  ('mosaic', 1, 'Turn this photo into a mosaic of small irregular stone tiles with pale grout that follow the shapes. Keep the composition.'),
  ('comic-book', 1, 'Turn this photo into a comic book panel: inked outlines, flat shading, print dots. Keep the faces recognisable.')
on conflict (style, version) do nothing;

insert into public.styles (id, version, name, description, model, position) values
  ('watercolor', 1, 'Watercolor', 'Soft washes on grained paper.', 'kontext-pro', 1),
  ('oil-painting', 1, 'Oil painting', 'Thick strokes under gallery light.', 'kontext-pro', 2),
  ('pencil-sketch', 1, 'Pencil sketch', 'Graphite lines and hatching on white paper.', 'kontext-pro', 3),
  ('pop-art', 1, 'Pop art', 'Flat bold colours and halftone dots.', 'kontext-pro', 4),
  ('stained-glass', 1, 'Stained glass', 'Luminous panes between dark lead.', 'kontext-pro', 5),
  ('pixel-art', 1, 'Pixel art', 'A small palette on a coarse grid.', 'kontext-pro', 6),
  ('woodblock-print', 1, 'Woodblock print', 'Few inks and fine lines on warm paper.', 'kontext-pro', 7),
  ('neon-night', 1, 'Neon night', 'Glowing contours in the dark.', 'kontext-pro', 8),
  ('mosaic', 1, 'Mosaic', 'Small stone tiles with pale grout.', 'kontext-pro', 9),
  ('comic-book', 1, 'Comic book', 'Ink outlines, flat shading, print dots.', 'kontext-pro', 10)
on conflict (id) do update
set version = excluded.version,
  name = excluded.name,
  description = excluded.description,
  model = excluded.model,
  position = excluded.position;
