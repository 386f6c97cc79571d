"""Published weights in our networks: tensor by tensor under the names of their files, and nothing
that is left over.
"""
