"""Query-based mask classification: the parts that Mask2Former, VITA and A2VIS share.

| paper section | file | class | official prefix |
|---|---|---|---|
| Mask2Former 3.2.2 | pixel_decoder.py | MSDeformAttnPixelDecoder | sem_seg_head.pixel_decoder |
| Mask2Former 3.2 | transformer_decoder.py | (see the file) | sem_seg_head.predictor |
| Mask2Former 3.3 | matcher.py, criterion.py, points.py | SetCriterion | criterion |
| VITA 3.2-3.3 | object_association.py | ObjectAssociation | vita_module |
"""
