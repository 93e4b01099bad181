"""Paper A's experiment (AVA-DSC) with every reading of it, its ablation and its table.

``schedrl experiment ava-dsc``; ``rows`` says what is compared, ``training`` trains it, ``runner`` keeps what is done,
``claims`` holds the paper's sentences against it, ``report`` writes it down.
"""
