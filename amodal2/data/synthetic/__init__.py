"""Scenes that we render ourselves, with exact visible and amodal masks.

``aquarium.py`` builds the scene. How things look: ``species.py`` (with ``fish_drawings.py`` and
``fish_parts.py``), ``scenery.py`` and ``water.py``, drawn with ``sprite.py`` and ``noise.py``. How
they move: ``warp.py``, ``motion.py``, ``choreography.py``. ``render.py`` draws any ``scene.Scene``,
``annotate.py`` turns masks into tracks, ``statistics.py`` counts how hard a dataset is, and
``writer.py`` writes datasets; a new kind of scene is one builder and one row of its ``SCENES``.

``market.py`` builds still pictures of things that stand about, drawn in ``object_drawings.py`` and
``goods_drawings.py`` with ``object_parts.py``; ``image_writer.py`` writes them. Both writers share
``split_files.py``.
"""
