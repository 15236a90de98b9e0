"""Scenes that we render ourselves, with exact visible and amodal masks.

``aquarium.py`` builds the scene (``species.py``, ``scenery.py``, ``water.py``: how things look;
``motion.py``, ``choreography.py``: where they go), ``render.py`` draws any ``scene.Scene``, and
``writer.py`` writes datasets of them.
"""
