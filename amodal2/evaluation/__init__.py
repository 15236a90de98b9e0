"""Evaluation of amodal video instance segmentation.

``tube_ap`` scores tracks (AP, AR), ``average_precision`` holds the matching rules, ``predictions``
the checks of the input, ``prediction_files`` the readers, ``report`` the printed and stored form,
``video_amodal`` the evaluator that the trainer runs, ``build`` the table from a dataset's
``evaluator_type`` to it.
"""
