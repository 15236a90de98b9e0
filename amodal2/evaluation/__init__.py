"""Evaluation of amodal video instance segmentation.

``video_tracks`` scores tracks: ``video_cells`` pairs predictions with the ground truth of their
video and class, ``overlaps`` computes their IoUs in every frame once, and from these come AP and AR
(``tube_ap``, by the rules of ``average_precision``) and HOTA, CLEAR and identity metrics
(``tracking``, by those of ``tracking_counts``). ``predictions`` and ``box_tubes`` check the input,
``prediction_files`` reads it, ``report`` prints and stores the result. ``video_amodal`` is the
evaluator that the trainer runs, ``build`` the table from a dataset's ``evaluator_type`` to it.
``tao_amodal`` scores boxes by the rules of that benchmark (``tao_boxes``, ``tao_cells``).
"""
