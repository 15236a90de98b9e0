"""Query-based mask classification: the parts that Mask2Former, VITA and A2VIS share.

| paper section | file | class | official prefix |
|---|---|---|---|
| Mask2Former 3.2.2 | pixel_decoder.py | MSDeformAttnPixelDecoder | sem_seg_head.pixel_decoder |
| Mask2Former 3.2 | transformer_decoder.py | (see the file) | sem_seg_head.predictor |
| Mask2Former 3.3 | matcher.py, criterion.py, points.py, slot_masks.py | SetCriterion | criterion |
| VITA 3.2-3.3 | object_association.py | ObjectAssociation | vita_module |
| VITA 3.4 | clip_criterion.py | ClipCriterion | vita_criterion, genvis_criterion |
| GenVIS 3.2 | label_assignment.py | LabelAssignment | |
| GenVIS 3.3 | clip_memory.py | RecurrentAssociation | vita_module |
| MinVIS 3.2 | linking.py | QueryLinker | |
| Mask2Former-VIS 2 | video_decoder.py | VideoMaskedTransformerDecoder | sem_seg_head.predictor |
| frames and videos to losses and tracks | segmenter.py, targets.py | VideoSegmenter | |
"""
