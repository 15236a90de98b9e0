"""Scenes that we render ourselves, with exact visible and amodal masks.

``aquarium.py`` builds the scene. How things look: ``species.py`` (with ``fish_drawings.py`` and
``fish_parts.py``), ``scenery.py`` and ``water.py``, drawn with ``sprite.py`` and ``noise.py``. How
they move: ``warp.py``, ``motion.py``, ``choreography.py``. ``render.py`` draws any ``scene.Scene``,
``annotate.py`` turns masks into tracks, ``statistics.py`` counts how hard a dataset is, and
``writer.py`` writes datasets; a new kind of scene is one builder and one row of its ``SCENES``.

``playroom.py`` builds a scene of solid bodies: ``toys.py`` puts them together from the parts of
``solids.py``, ``toy_looks.py`` paints them, ``tumbling.py`` lets them fall (MuJoCo, the extra
"physics"), and ``ray_render.py`` draws them with ``ray_cast.py`` and ``cameras.py``.

``market.py`` builds still pictures of things that stand about, drawn in ``object_drawings.py`` and
``goods_drawings.py`` with ``object_parts.py``; ``image_writer.py`` writes them. Both writers share
``split_files.py``, the scripts that call them ``command.py``.
"""
